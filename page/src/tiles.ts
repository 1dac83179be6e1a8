// The parts of the canvas: three planes and the rendering, and where a point lies in them.

import { clamp, triple, type Triple } from "./geometry";

export type Plane = "axial" | "coronal" | "sagittal";

/** Per plane the RAS axes that run across, up and through it. */
export const PLANES: Record<Plane, { across: number; up: number; through: number }> = {
  axial: { across: 0, up: 1, through: 2 },
  coronal: { across: 0, up: 2, through: 1 },
  sagittal: { across: 1, up: 2, through: 0 },
};

/** fraction of the volume = from + per * pixel */
export interface Ruler {
  from: number;
  per: number;
}

/** A part of the canvas, in CSS pixels. `plane` is null for the rendering. */
export interface Tile {
  left: number;
  top: number;
  width: number;
  height: number;
  plane: Plane | null;
  across: Ruler;
  up: Ruler;
}

/** A ruler through two known points: pixel and fraction of each. */
export function ruler(first: [number, number], second: [number, number]): Ruler {
  const per = (second[1] - first[1]) / (second[0] - first[0]);
  return { from: first[1] - per * first[0], per };
}

/** The tile under a pixel. */
export function tileAt(tiles: Tile[], x: number, y: number): Tile | undefined {
  return tiles.find(
    (t) => x >= t.left && x < t.left + t.width && y >= t.top && y < t.top + t.height,
  );
}

/**
 * The point under a pixel, as fractions of the volume; beyond the edge the nearest one.
 *
 * @param tile a plane.
 * @param x pixel.
 * @param y pixel.
 * @param crosshair fractions; says which slice the plane shows.
 */
export function fracAt(tile: Tile & { plane: Plane }, x: number, y: number, crosshair: Triple): Triple {
  const { across, up } = PLANES[tile.plane];
  return triple((a) => {
    if (a === across) return clamp(tile.across.from + tile.across.per * x, 0, 1);
    if (a === up) return clamp(tile.up.from + tile.up.per * y, 0, 1);
    return crosshair[a];
  });
}

/** The pixel of a point that is given as fractions of the volume. */
export function pixelOf(tile: Tile & { plane: Plane }, frac: Triple): [number, number] {
  const { across, up } = PLANES[tile.plane];
  return [
    (frac[across] - tile.across.from) / tile.across.per,
    (frac[up] - tile.up.from) / tile.up.per,
  ];
}
