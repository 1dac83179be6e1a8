// How well a mask agrees with a reference.

import type { Part } from "./arrays";

/** The labels of a reference, smallest first. */
export function labelsOf(reference: Part): number[] {
  const found = new Set<number>();
  for (let n = 0; n < reference.voxels.length; n++) found.add(reference.voxels[n]);
  found.delete(0);
  return [...found].sort((a, b) => a - b);
}

/**
 * The Dice similarity coefficient, 2 |A and B| / (|A| + |B|); 1 if both are empty.
 *
 * @param mask an object's mask.
 * @param reference labels on the same grid.
 * @param label which of them is meant.
 */
export function dice(mask: Part, reference: Part, label: number): number {
  let inMask = 0;
  let inReference = 0;
  let inBoth = 0;
  for (let n = 0; n < mask.voxels.length; n++) inMask += mask.voxels[n] ? 1 : 0;
  const [d, h, w] = reference.size;
  const [md, mh, mw] = mask.size;
  let from = 0;
  for (let z = 0; z < d; z++) {
    const mz = z + reference.lo[0] - mask.lo[0];
    for (let y = 0; y < h; y++) {
      const my = y + reference.lo[1] - mask.lo[1];
      for (let x = 0; x < w; x++) {
        if (reference.voxels[from++] !== label) continue;
        inReference++;
        const mx = x + reference.lo[2] - mask.lo[2];
        const inside = mz >= 0 && mz < md && my >= 0 && my < mh && mx >= 0 && mx < mw;
        if (inside && mask.voxels[(mz * mh + my) * mw + mx]) inBoth++;
      }
    }
  }
  const total = inMask + inReference;
  return total ? (2 * inBoth) / total : 1;
}
