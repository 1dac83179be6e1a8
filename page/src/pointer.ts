// The mouse on the canvas.
//
//   tool     left                       right
//   look     move the crosshair         -
//   box      drag a rectangle           -
//   click    add                        remove
//
// In every tool: wheel, slices; Ctrl and wheel, zoom; Shift and left, or the middle button, move
// the crosshair; on the rendering a drag turns it.

import { fracOfRas, rasOfFrac, type Triple } from "./geometry";
import { fracAt, type Plane, PLANES, type Tile, tileAt } from "./tiles";
import type { Viewer } from "./viewer";

export type Tool = "look" | "box" | "click";

export interface Hand {
  tool: Tool;
  click(at: Triple, positive: boolean): void;
  /** A rectangle on a plane; `done` once the button is up. */
  drag(first: Triple, second: Triple, plane: Plane, done: boolean): void;
  hover(at: Triple | null): void;
}

const SLIP_PX = 5; // a click may move that far
const ZOOM_PER_WHEEL = 1.15;
const LEFT = 0;
const MIDDLE = 1;
const RIGHT = 2;

type PlaneTile = Tile & { plane: Plane };
type Gesture =
  | { kind: "turn"; x: number; y: number }
  | { kind: "look"; tile: PlaneTile }
  | { kind: "box"; tile: PlaneTile; first: Triple; moved: boolean; x: number; y: number }
  | { kind: "click"; at: Triple; positive: boolean; x: number; y: number };

/** Listen to the mouse on `canvas` for as long as the page lives. */
export function listen(canvas: HTMLCanvasElement, viewer: Viewer, hand: Hand): void {
  let gesture: Gesture | null = null;

  const voxel = (tile: PlaneTile, event: MouseEvent): Triple => {
    const frac = fracAt(tile, event.offsetX, event.offsetY, fracOfRas(viewer.at, viewer.turn));
    return rasOfFrac(frac, viewer.turn);
  };
  const under = (event: MouseEvent) => tileAt(viewer.tiles(), event.offsetX, event.offsetY);

  canvas.oncontextmenu = (event) => event.preventDefault();

  canvas.onpointerdown = (event) => {
    const tile = viewer.isEmpty || gesture ? undefined : under(event);
    if (!tile) return;
    event.preventDefault(); // the middle button would scroll
    canvas.focus();
    canvas.setPointerCapture(event.pointerId);
    gesture = begin(tile, event, hand.tool, voxel);
    if (gesture?.kind === "look") viewer.goTo(voxel(gesture.tile, event));
  };

  canvas.onpointermove = (event) => {
    if (viewer.isEmpty) return;
    if (gesture?.kind === "look") viewer.goTo(voxel(gesture.tile, event));
    if (gesture?.kind === "turn") {
      viewer.turnRendering(event.offsetX - gesture.x, event.offsetY - gesture.y);
      [gesture.x, gesture.y] = [event.offsetX, event.offsetY];
    }
    if (gesture?.kind === "box") {
      gesture.moved ||= slipped(gesture, event);
      if (gesture.moved) {
        hand.drag(gesture.first, voxel(gesture.tile, event), gesture.tile.plane, false);
      }
    }
    const tile = under(event);
    hand.hover(tile && isPlane(tile) ? voxel(tile, event) : null);
  };

  canvas.onpointerup = (event) => {
    const ended = gesture;
    gesture = null;
    if (ended?.kind === "box" && ended.moved) {
      hand.drag(ended.first, voxel(ended.tile, event), ended.tile.plane, true);
    }
    if (ended?.kind === "click" && !slipped(ended, event)) hand.click(ended.at, ended.positive);
  };
  canvas.onpointercancel = () => (gesture = null);
  canvas.onpointerleave = () => hand.hover(null);

  canvas.addEventListener(
    "wheel",
    (event) => {
      const tile = viewer.isEmpty ? undefined : under(event);
      if (!tile || !isPlane(tile)) return;
      event.preventDefault();
      const up = event.deltaY < 0 ? 1 : -1;
      if (event.ctrlKey || event.metaKey) viewer.zoomBy(ZOOM_PER_WHEEL ** up);
      else scroll(viewer, tile.plane, up);
    },
    { passive: false },
  );
}

/** Go some slices up or down through a plane. */
export function scroll(viewer: Viewer, plane: Plane, by: number): void {
  const at = viewer.at;
  at[PLANES[plane].through] += by;
  viewer.goTo(at);
}

function begin(
  tile: Tile,
  event: PointerEvent,
  tool: Tool,
  voxel: (tile: PlaneTile, event: MouseEvent) => Triple,
): Gesture | null {
  const [x, y] = [event.offsetX, event.offsetY];
  if (!isPlane(tile)) return { kind: "turn", x, y };
  const looks = event.button === MIDDLE || (event.button === LEFT && event.shiftKey);
  if (looks || (tool === "look" && event.button === LEFT)) return { kind: "look", tile };
  const at = voxel(tile, event);
  if (tool === "box" && event.button === LEFT) {
    return { kind: "box", tile, first: at, moved: false, x, y };
  }
  if (tool === "click" && (event.button === LEFT || event.button === RIGHT)) {
    return { kind: "click", at, positive: event.button === LEFT, x, y };
  }
  return null;
}

function slipped(from: { x: number; y: number }, event: PointerEvent): boolean {
  return Math.hypot(event.offsetX - from.x, event.offsetY - from.y) > SLIP_PX;
}

function isPlane(tile: Tile): tile is PlaneTile {
  return tile.plane !== null;
}
