// Crosshair, boxes, clicks and the suggestion, drawn over the planes.

import type { Box } from "./box";
import { fileOfRas, fracOfRas, rasOfFile, reversed, triple, type Triple, type Turn } from "./geometry";
import type { Said } from "./history";
import { PLANES, pixelOf, type Plane, type Tile } from "./tiles";

/** What is to be marked; places in the server's order (z, y, x). */
export interface Marks {
  box: Box | null;
  entries: Said[];
  suggestion: Triple | null;
}

const ADD = "#3ddc84";
const REMOVE = "#ff5c6c";
const BOX = "#ffd34d";
const SUGGESTED = "#4aa8ff";
const CROSSHAIR = "rgb(140 200 255 / 55%)";
const CROSSHAIR_GAP = 12;
const RADIUS = 6;

type PlaneTile = Tile & { plane: Plane };

/** Draw everything anew. `at` is the crosshair's voxel in RAS order. */
export function drawMarks(
  canvas: HTMLCanvasElement,
  tiles: Tile[],
  marks: Marks,
  turn: Turn,
  at: Triple,
): void {
  const dpr = window.devicePixelRatio;
  canvas.width = canvas.clientWidth * dpr;
  canvas.height = canvas.clientHeight * dpr;
  const pen = canvas.getContext("2d")!;
  pen.scale(dpr, dpr);
  for (const tile of tiles) {
    if (!isPlane(tile)) continue;
    pen.save();
    pen.beginPath();
    pen.rect(tile.left, tile.top, tile.width, tile.height);
    pen.clip();
    drawPlane(pen, tile, marks, turn, at);
    pen.restore();
  }
}

function drawPlane(
  pen: CanvasRenderingContext2D,
  tile: PlaneTile,
  marks: Marks,
  turn: Turn,
  at: Triple,
): void {
  const { through } = PLANES[tile.plane];
  const ras = (place: Triple) => rasOfFile(reversed(place), turn);
  drawCrosshair(pen, tile, pixelOf(tile, fracOfRas(at, turn)));
  if (marks.box) {
    const [a, b] = [ras(marks.box.lo), ras(marks.box.hi)];
    const inside = Math.min(a[through], b[through]) <= at[through] &&
      at[through] <= Math.max(a[through], b[through]);
    drawBox(pen, tile, a, b, turn, inside);
  }
  for (const entry of marks.entries) {
    if (entry.kind !== "click") continue;
    const place = ras(entry.at);
    if (place[through] !== at[through]) continue;
    drawClick(pen, pixelOf(tile, fracOfRas(place, turn)), entry.positive);
  }
  if (marks.suggestion && ras(marks.suggestion)[through] === at[through]) {
    drawRing(pen, pixelOf(tile, fracOfRas(ras(marks.suggestion), turn)));
  }
}

function drawCrosshair(
  pen: CanvasRenderingContext2D,
  tile: Tile,
  [x, y]: [number, number],
): void {
  pen.beginPath();
  pen.moveTo(tile.left, y);
  pen.lineTo(x - CROSSHAIR_GAP, y);
  pen.moveTo(x + CROSSHAIR_GAP, y);
  pen.lineTo(tile.left + tile.width, y);
  pen.moveTo(x, tile.top);
  pen.lineTo(x, y - CROSSHAIR_GAP);
  pen.moveTo(x, y + CROSSHAIR_GAP);
  pen.lineTo(x, tile.top + tile.height);
  pen.strokeStyle = CROSSHAIR;
  pen.lineWidth = 1;
  pen.stroke();
}

/** The outer edges of both corners' voxels; dashed where the slice does not cut the box. */
function drawBox(
  pen: CanvasRenderingContext2D,
  tile: PlaneTile,
  a: Triple,
  b: Triple,
  turn: Turn,
  inside: boolean,
): void {
  const low = triple((n) => Math.min(a[n], b[n]) / turn.dims[n]);
  const high = triple((n) => (Math.max(a[n], b[n]) + 1) / turn.dims[n]);
  const [x0, y0] = pixelOf(tile, low);
  const [x1, y1] = pixelOf(tile, high);
  pen.strokeStyle = BOX;
  pen.lineWidth = 1.5;
  pen.setLineDash(inside ? [] : [4, 5]);
  pen.strokeRect(Math.min(x0, x1), Math.min(y0, y1), Math.abs(x1 - x0), Math.abs(y1 - y0));
  pen.setLineDash([]);
}

function drawClick(pen: CanvasRenderingContext2D, [x, y]: [number, number], add: boolean): void {
  pen.beginPath();
  pen.arc(x, y, RADIUS, 0, 2 * Math.PI);
  pen.fillStyle = add ? ADD : REMOVE;
  pen.fill();
  pen.strokeStyle = "#000";
  pen.lineWidth = 1.5;
  pen.stroke();
  pen.beginPath(); // a plus or a minus: the colour alone does not say it
  pen.moveTo(x - RADIUS / 2, y);
  pen.lineTo(x + RADIUS / 2, y);
  if (add) {
    pen.moveTo(x, y - RADIUS / 2);
    pen.lineTo(x, y + RADIUS / 2);
  }
  pen.stroke();
}

function drawRing(pen: CanvasRenderingContext2D, [x, y]: [number, number]): void {
  pen.beginPath();
  pen.arc(x, y, 2 * RADIUS, 0, 2 * Math.PI);
  pen.strokeStyle = SUGGESTED;
  pen.lineWidth = 2.5;
  pen.stroke();
}

function isPlane(tile: Tile): tile is PlaneTile {
  return tile.plane !== null;
}

/** The server's (z, y, x) of a voxel in RAS order. */
export function placeOf(ras: Triple, turn: Turn): Triple {
  return reversed(fileOfRas(ras, turn));
}
