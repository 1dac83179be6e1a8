import assert from "node:assert/strict";
import { test } from "node:test";
import { deflateSync } from "node:zlib";
import { cornersOf, emptyPart, type Part, unpack } from "../src/arrays";
import { drawn, saidBox } from "../src/box";
import { formatOf, stemOf } from "../src/formats";
import type { Triple, Turn } from "../src/geometry";
import { keyOf, live, type Said, wordsOf } from "../src/history";
import { paint } from "../src/paint";
import { dice, labelsOf } from "../src/score";
import { fracAt, pixelOf, ruler, type Tile } from "../src/tiles";

function packed(text: object, voxels: Uint8Array, zlib: boolean): ArrayBuffer {
  const words = Buffer.from(JSON.stringify(text));
  const head = Buffer.alloc(10);
  head.write("SGVA");
  head.writeUInt8(1, 4);
  head.writeUInt8(zlib ? 1 : 0, 5);
  head.writeUInt32LE(words.length, 6);
  const body = zlib ? deflateSync(voxels) : voxels;
  return new Uint8Array(Buffer.concat([head, words, body])).buffer;
}

function part(lo: Triple, size: Triple, ...voxels: number[]): Part {
  return { shape: [4, 4, 4], lo, size, voxels: Uint8Array.from(voxels) };
}

const BOX: Said = { kind: "box", lo: [1, 2, 3], hi: [1, 4, 6], tight: [true, true, true] };
const CLICK: Said = { kind: "click", at: [1, 2, 3], positive: false };
const RAS: Turn = { dims: [4, 4, 4], perm: [1, 2, 3] };

test("the server's arrays are read, packed or not", async () => {
  const text = { dtype: "uint16", shape: [4, 4, 4], lo: [1, 0, 2], size: [1, 1, 2] };
  for (const zlib of [true, false]) {
    const got = await unpack(packed(text, Uint8Array.from([7, 0, 0, 1]), zlib));
    assert.deepEqual([...got.voxels], [7, 256]);
    assert.deepEqual(cornersOf(got), { lo: [1, 0, 2], hi: [1, 0, 3] });
  }
  const nothing = { dtype: "bool", shape: [4, 4, 4], lo: [0, 0, 0], size: [0, 0, 0] };
  const empty = await unpack(packed(nothing, new Uint8Array(), true));
  assert.equal(cornersOf(empty), null);
  await assert.rejects(unpack(new Uint8Array(20).buffer), /another release/);
});

test("masks are painted in RAS order, the last one on top", () => {
  const canvas = new Uint8Array(64).fill(9);
  const turn: Turn = { dims: [4, 4, 4], perm: [-1, 3, 2] }; // i to the left, j to the head
  const coats = [
    { mask: part([0, 1, 2], [1, 1, 2], 1, 1), label: 1 }, // k=0 j=1 i=2,3
    { mask: part([0, 1, 3], [1, 1, 1], 1), label: 2 },
  ];
  paint(canvas, coats, turn);
  assert.equal(canvas[1 + 4 * (0 + 4 * 1)], 1);
  assert.equal(canvas[0 + 4 * (0 + 4 * 1)], 2);
  assert.equal(canvas.filter(Boolean).length, 2);
});

test("the Dice coefficient counts where both lie", () => {
  const mask = part([0, 0, 0], [1, 2, 2], 1, 1, 0, 1);
  const reference = part([0, 0, 1], [1, 1, 3], 5, 2, 5);
  assert.deepEqual(labelsOf(reference), [2, 5]);
  assert.equal(dice(mask, reference, 5), (2 * 1) / (3 + 2));
  assert.equal(dice(mask, reference, 2), 0);
  assert.equal(dice(emptyPart([4, 4, 4]), reference, 7), 1);
});

test("a history in words, and what of it counts", () => {
  assert.deepEqual([BOX, CLICK, { kind: "reset" } as Said].map(wordsOf), [
    "Box 1 x 3 x 4",
    "Remove at 1, 2, 3",
    "Emptied",
  ]);
  assert.deepEqual(live([CLICK, BOX, CLICK, CLICK], 3), [BOX, CLICK]);
  assert.deepEqual(live([BOX, { kind: "reset" }, CLICK], 3), [CLICK]);
  assert.deepEqual(live([BOX, CLICK], 0), []);
  assert.notEqual(keyOf(1, [BOX, CLICK], 1), keyOf(1, [BOX, CLICK], 2));
  assert.equal(keyOf(1, [BOX, CLICK], 1), keyOf(1, [BOX], 1));
});

test("a rectangle on a second plane completes the box", () => {
  const first = drawn(null, [3, 1, 2], [1, 2, 2], "axial", RAS);
  assert.deepEqual(first, { lo: [2, 1, 1], hi: [2, 2, 3] });
  const second = drawn(first, [0, 2, 0], [2, 2, 3], "coronal", RAS);
  assert.deepEqual(second, { lo: [0, 1, 0], hi: [3, 2, 2] });
  const elsewhere = drawn(first, [0, 0, 0], [2, 0, 3], "coronal", RAS);
  assert.deepEqual(elsewhere, { lo: [0, 0, 0], hi: [3, 0, 2] });
  assert.deepEqual(saidBox([BOX, CLICK]), { lo: BOX.lo, hi: BOX.hi });
  assert.equal(saidBox([CLICK]), null);
});

test("pixels and fractions of a plane lead back to each other", () => {
  const plane = "coronal" as const;
  const size = { left: 100, top: 50, width: 200, height: 100 };
  const rulers = { across: ruler([100, 1], [300, 0]), up: ruler([50, 1], [150, 0]) };
  const tile: Tile & { plane: "coronal" } = { ...size, ...rulers, plane };
  assert.deepEqual(fracAt(tile, 150, 75, [0.1, 0.2, 0.3]), [0.75, 0.2, 0.75]);
  assert.deepEqual(pixelOf(tile, [0.75, 0.2, 0.75]), [150, 75]);
  assert.deepEqual(fracAt(tile, 400, 500, [0.1, 0.2, 0.3]), [0, 0.2, 0]);
});

test("files are known by the ends of their names", () => {
  assert.deepEqual(["a.NII.gz", "b.nii", "c.d.nrrd", "e.mha"].map(formatOf), [
    "nii.gz",
    "nii",
    "nrrd",
    "mha",
  ]);
  assert.equal(stemOf("my scan.nii.gz"), "my-scan");
  assert.throws(() => formatOf("scan.dcm"), /can be opened here/);
});
