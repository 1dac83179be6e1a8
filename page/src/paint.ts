// Masks of several objects on the viewer's one label map.

import type { Part } from "./arrays";
import { stridesOf, type Turn } from "./geometry";

/** A mask and the number that its voxels get. */
export interface Coat {
  mask: Part;
  label: number;
}

/**
 * Paint masks on a label map, the last one on top; what was there before is gone.
 *
 * @param canvas labels in the viewer's RAS order.
 * @param coats masks in file order.
 * @param turn how the viewer turned the file.
 */
export function paint(canvas: Uint8Array, coats: Iterable<Coat>, turn: Turn): void {
  canvas.fill(0);
  for (const { mask, label } of coats) {
    each(mask, turn, (at, value) => {
      if (value) canvas[at] = label;
    });
  }
}

function each(part: Part, turn: Turn, put: (at: number, value: number) => void): void {
  const { start, step } = stridesOf(turn);
  const [d, h, w] = part.size;
  let from = 0;
  for (let z = 0; z < d; z++) {
    for (let y = 0; y < h; y++) {
      let at = start + part.lo[2] * step[0] + (part.lo[1] + y) * step[1] + (part.lo[0] + z) * step[2];
      for (let x = 0; x < w; x++, at += step[0]) put(at, part.voxels[from++]);
    }
  }
}
