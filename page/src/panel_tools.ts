// The tools, the six numbers of the box, and the line that says what to do next.

import type { App } from "./app";
import type { Box } from "./box";
import { element } from "./elements";
import type { Triple } from "./geometry";
import type { Tool } from "./pointer";
import { DEMO_NAME } from "./sessions";

const TOOLS: Tool[] = ["look", "box", "click"];
const AXES = ["z", "y", "x"];

export function setUpTools(app: App): void {
  for (const tool of TOOLS) {
    element(`tool-${tool}`).onclick = () => {
      app.tool = tool;
      app.changed();
    };
  }
  element("suggest").onclick = () => void app.suggest();

  const fields = ["lo", "hi"].map((end) =>
    AXES.map((axis) => element(`${end}-${axis}`, HTMLInputElement)),
  );
  const form = element("box-form", HTMLFormElement);
  form.oninput = () => {
    const typed = read(fields);
    if (!typed) return; // showing anew now would empty what is half typed
    app.draft = typed;
    app.changed();
  };
  form.onsubmit = (event) => {
    event.preventDefault();
    void app.segmentBox();
  };

  app.onChange(() => {
    for (const tool of TOOLS) {
      element(`tool-${tool}`).setAttribute("aria-pressed", String(tool === app.tool));
    }
    element("guide").textContent = guide(app);
    element("box-go", HTMLButtonElement).disabled = !app.box;
    show(fields, app.box, app.case?.info.shape ?? [1, 1, 1]);
  });
}

/** What to do next, in a sentence or two. */
function guide(app: App): string {
  const open = app.case;
  if (!open) return "";
  if (open.live.length) {
    return app.tool === "click"
      ? "Click where the mask is wrong: left adds, right removes."
      : "Go on with Click where the mask is wrong, or draw another box.";
  }
  if (app.draft) {
    const whose = app.kept.name === DEMO_NAME ? " around the left thalamus" : "";
    return `The yellow box${whose} is ready: press “Segment this box”, or drag one of your own.`;
  }
  return "Drag a box around the structure on any plane; the wheel goes through the slices.";
}

function read(fields: HTMLInputElement[][]): Box | null {
  const [lo, hi] = fields.map((row) => row.map((field) => field.valueAsNumber) as Triple);
  return [...lo, ...hi].every(Number.isInteger) ? { lo, hi } : null;
}

function show(fields: HTMLInputElement[][], box: Box | null, shape: Triple): void {
  fields.forEach((row, end) => {
    row.forEach((field, axis) => {
      field.min = "0";
      field.max = String(shape[axis] - 1);
      if (field === document.activeElement) return;
      field.value = box ? String((end ? box.hi : box.lo)[axis]) : "";
    });
  });
}
