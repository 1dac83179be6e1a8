// The keys: one table, which is both obeyed and shown in the help.

import type { App } from "./app";
import { element, make } from "./elements";
import { scroll } from "./pointer";
import type { Plane } from "./tiles";
import type { Layout } from "./viewer";

interface Shortcut {
  keys: string[];
  does: string;
  run: (app: App) => void;
}

const ZOOM = 1.25;
/** Keys that go on for as long as they are held; the others act once. */
const HELD = /^(Arrow.*|Page.*|[+-])$/;
const OBJECT_STEPS = { previous: -1, next: 1 };

const press = (id: string) => () => element(id, HTMLButtonElement).click();
const layout = (value: Layout) => () => {
  const select = element("layout", HTMLSelectElement);
  select.value = value;
  select.dispatchEvent(new Event("change"));
};
const go = (plane: Plane, by: number) => (app: App) => scroll(app.viewer, plane, by);

const SHORTCUTS: Shortcut[] = [
  { keys: ["b"], does: "box: drag it with the left button", run: press("tool-box") },
  { keys: ["c"], does: "click: left adds, right removes", run: press("tool-click") },
  { keys: ["v"], does: "look: the left button moves the crosshair", run: press("tool-look") },
  { keys: ["Enter"], does: "segment the box", run: press("box-go") },
  { keys: ["a"], does: "add at the crosshair", run: (app) => app.click(app.viewer.at, true) },
  { keys: ["d"], does: "remove at the crosshair", run: (app) => app.click(app.viewer.at, false) },
  { keys: ["s"], does: "suggested next click", run: press("suggest") },
  { keys: ["Ctrl+z", "u"], does: "undo", run: press("undo") },
  { keys: ["Ctrl+y", "r"], does: "redo", run: press("redo") },
  { keys: ["n"], does: "add an object", run: press("object-add") },
  { keys: ["["], does: "previous object", run: (app) => neighbour(app, OBJECT_STEPS.previous) },
  { keys: ["]"], does: "next object", run: (app) => neighbour(app, OBJECT_STEPS.next) },
  { keys: ["h"], does: "heat map of doubt", run: () => element("heat").click() },
  { keys: ["m"], does: "hide or show the masks", run: toggleMasks },
  { keys: ["ArrowLeft"], does: "one voxel to the patient's left", run: go("sagittal", -1) },
  { keys: ["ArrowRight"], does: "one voxel to the patient's right", run: go("sagittal", 1) },
  { keys: ["ArrowUp"], does: "one voxel to the front", run: go("coronal", 1) },
  { keys: ["ArrowDown"], does: "one voxel to the back", run: go("coronal", -1) },
  { keys: ["PageUp"], does: "one voxel to the head", run: go("axial", 1) },
  { keys: ["PageDown"], does: "one voxel to the feet", run: go("axial", -1) },
  { keys: ["0"], does: "all planes and the rendering", run: layout("all") },
  { keys: ["1"], does: "all planes", run: layout("planes") },
  { keys: ["2"], does: "axial plane", run: layout("axial") },
  { keys: ["3"], does: "coronal plane", run: layout("coronal") },
  { keys: ["4"], does: "sagittal plane", run: layout("sagittal") },
  { keys: ["5"], does: "rendering", run: layout("render") },
  { keys: ["+"], does: "enlarge about the crosshair", run: (app) => app.viewer.zoomBy(ZOOM) },
  { keys: ["-"], does: "back", run: (app) => app.viewer.zoomBy(1 / ZOOM) },
  { keys: ["Escape"], does: "cancel what is running", run: (app) => app.tasks.cancel() },
  { keys: ["?"], does: "this sheet", run: press("help-button") },
];

const MOUSE: [string, string][] = [
  ["left, tool Box", "drag a box on a plane; on a second plane it is completed"],
  ["left, tool Click", "add here"],
  ["right, tool Click", "remove here"],
  ["left, tool Look", "move the crosshair; in every tool with Shift"],
  ["wheel", "through the slices"],
  ["Ctrl and wheel", "enlarge about the crosshair"],
  ["drag the rendering", "turn it"],
];

/** Obey the keys and fill the help sheet. */
export function setUpShortcuts(app: App): void {
  const help = element("help", HTMLDialogElement);
  element("help-button").onclick = () => help.showModal();
  const rows = (lines: [string[], string][]) =>
    lines.map(([keys, does]) => {
      const names = keys.flatMap((key, n) => [n ? " or " : "", make("kbd", {}, key)]);
      return make("tr", {}, make("td", {}, ...names), make("td", {}, does));
    });
  const lines = [
    ...MOUSE.map(([where, does]): [string[], string] => [[where], does]),
    ...SHORTCUTS.map(({ keys, does }): [string[], string] => [keys, does]),
  ];
  const half = Math.ceil(lines.length / 2);
  element("help-left").append(...rows(lines.slice(0, half)));
  element("help-right").append(...rows(lines.slice(half)));

  document.addEventListener("keydown", (event) => {
    if (help.open || event.altKey || isTyping(event)) return;
    const name = nameOf(event);
    const found = SHORTCUTS.find(({ keys }) => keys.includes(name));
    const needsCase = found && !["?", "Escape"].includes(name);
    if (!found || (needsCase && !app.case)) return;
    event.preventDefault();
    if (!event.repeat || HELD.test(name)) found.run(app);
  });
}

function nameOf(event: KeyboardEvent): string {
  const control = event.ctrlKey || event.metaKey;
  if (control && event.shiftKey && event.key.toLowerCase() === "z") return "Ctrl+y";
  if (control) return `Ctrl+${event.key.toLowerCase()}`;
  return event.key.length === 1 ? event.key.toLowerCase() : event.key;
}

/** In a field letters are letters; on a button Enter and the space bar press it. */
function isTyping(event: KeyboardEvent): boolean {
  const { target } = event;
  if (target instanceof HTMLInputElement) {
    return !["checkbox", "range"].includes(target.type) || event.key.startsWith("Arrow");
  }
  if (target instanceof HTMLSelectElement) return true;
  return target instanceof HTMLButtonElement && event.key === "Enter";
}

function toggleMasks(): void {
  const slider = element("opacity", HTMLInputElement);
  const { shown = "0.5" } = slider.dataset;
  if (Number(slider.value)) slider.dataset.shown = slider.value;
  slider.value = Number(slider.value) ? "0" : shown;
  slider.dispatchEvent(new Event("input"));
}

function neighbour(app: App, by: number): void {
  const { objects, current } = app.case!.info;
  const at = objects.findIndex((o) => o.name === current);
  const { name } = objects[(at + by + objects.length) % objects.length];
  void app.act("Selecting", (open) => open.change("/select", { name }));
  app.draft = null;
}
