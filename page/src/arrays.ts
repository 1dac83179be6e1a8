// Arrays as the server packs them; see `segvol_gru/interfaces/wire_arrays.py`.

import type { Triple } from "./geometry";

/** The part of an array that is not 0, in the server's order (z, y, x). */
export interface Part<Voxels extends ArrayLike<number> = Uint8Array | Uint16Array | Uint32Array> {
  shape: Triple;
  lo: Triple;
  size: Triple;
  voxels: Voxels;
}

const START_BYTES = 10;
const ZLIB = 1;

/** Unpack whole numbers; other types are not what this page asks for. */
export async function unpack(data: ArrayBuffer): Promise<Part> {
  const view = new DataView(data);
  const mark = new TextDecoder().decode(new Uint8Array(data, 0, 4));
  if (mark !== "SGVA" || view.getUint8(4) !== 1) {
    throw new Error("The server's answer is of another release; load the page again.");
  }
  const length = view.getUint32(6, true);
  const words = new TextDecoder().decode(new Uint8Array(data, START_BYTES, length));
  const text = JSON.parse(words) as { dtype: string; shape: Triple; lo: Triple; size: Triple };
  const body = data.slice(START_BYTES + length);
  const bytes = view.getUint8(5) === ZLIB && body.byteLength > 0 ? await inflate(body) : body;
  return { shape: text.shape, lo: text.lo, size: text.size, voxels: typed(text.dtype, bytes) };
}

/** A part without any voxel. */
export function emptyPart(shape: Triple): Part<Uint8Array> {
  return { shape, lo: [0, 0, 0], size: [0, 0, 0], voxels: new Uint8Array() };
}

/** Both corners, inclusive, of the voxels that are not 0; null if there are none. */
export function cornersOf(part: Part): { lo: Triple; hi: Triple } | null {
  const { lo, size } = part;
  if (size.includes(0)) return null;
  return { lo, hi: [lo[0] + size[0] - 1, lo[1] + size[1] - 1, lo[2] + size[2] - 1] };
}

function typed(dtype: string, bytes: ArrayBuffer): Part["voxels"] {
  if (dtype === "bool" || dtype === "uint8") return new Uint8Array(bytes);
  if (dtype === "uint16") return new Uint16Array(bytes);
  if (dtype === "uint32") return new Uint32Array(bytes);
  throw new Error(`The server sent ${dtype}, which this page does not read.`);
}

async function inflate(packed: ArrayBuffer): Promise<ArrayBuffer> {
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}
