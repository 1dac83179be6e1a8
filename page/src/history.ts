// A history as the server tells it, in words.

import type { Triple } from "./geometry";

export type Said =
  | { kind: "box"; lo: Triple; hi: Triple; tight: [boolean, boolean, boolean] }
  | { kind: "click"; at: Triple; positive: boolean }
  | { kind: "seed"; voxels: number }
  | { kind: "reset" };

/** One entry of a history for the list. */
export function wordsOf(entry: Said): string {
  switch (entry.kind) {
    case "box":
      return `Box ${size(entry.lo, entry.hi).join(" x ")}`;
    case "click":
      return `${entry.positive ? "Add" : "Remove"} at ${entry.at.join(", ")}`;
    case "seed":
      return `Mask of ${entry.voxels} voxels`;
    case "reset":
      return "Emptied";
  }
}

/** Entries since the last one that began the object anew: what the marks on the image show. */
export function live(history: Said[], cursor: number): Said[] {
  const counts = history.slice(0, cursor);
  let from = 0;
  counts.forEach((entry, n) => {
    if (entry.kind === "reset") from = n + 1;
    if (entry.kind === "box" || entry.kind === "seed") from = n;
  });
  return counts.slice(from);
}

/** A name for everything that was said until a step: the same words lead to the same mask. */
export function keyOf(label: number, history: Said[], step: number): string {
  return `${label} ${JSON.stringify(history.slice(0, step))}`;
}

function size(lo: Triple, hi: Triple): number[] {
  return lo.map((from, axis) => hi[axis] - from + 1);
}
