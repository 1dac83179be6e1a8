// The box that is being drawn: two corners, inclusive, in the server's order (z, y, x).

import { fileOfRas, reversed, triple, type Triple, type Turn } from "./geometry";
import type { Said } from "./history";
import { type Plane, PLANES } from "./tiles";

export interface Box {
  lo: Triple;
  hi: Triple;
}

/**
 * The box after a rectangle was drawn on a plane.
 *
 * Through the plane it keeps the extent of the box before if that reaches this slice, so that a
 * second rectangle on another plane completes the first; else it is one slice thick.
 *
 * @param before the box until now.
 * @param first a corner of the rectangle, RAS order.
 * @param second the opposite corner, on the same slice.
 * @param plane where it was drawn.
 * @param turn how the viewer turned the file.
 */
export function drawn(
  before: Box | null,
  first: Triple,
  second: Triple,
  plane: Plane,
  turn: Turn,
): Box {
  const a = reversed(fileOfRas(first, turn));
  const b = reversed(fileOfRas(second, turn));
  const lo = triple((n) => Math.min(a[n], b[n]));
  const hi = triple((n) => Math.max(a[n], b[n]));
  const through = 3 - Math.abs(turn.perm[PLANES[plane].through]);
  if (before && before.lo[through] <= lo[through] && hi[through] <= before.hi[through]) {
    lo[through] = before.lo[through];
    hi[through] = before.hi[through];
  }
  return { lo, hi };
}

/** The box that the mask on the screen began with. */
export function saidBox(entries: Said[]): Box | null {
  const first = entries[0];
  return first?.kind === "box" ? { lo: first.lo, hi: first.hi } : null;
}
