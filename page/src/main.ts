// The page: puts the parts together.

import { App } from "./app";
import { element } from "./elements";
import type { Triple } from "./geometry";
import { placeOf } from "./marks";
import { setUpHistory } from "./panel_history";
import { setUpObjects } from "./panel_objects";
import { setUpSave } from "./panel_save";
import { setUpScore } from "./panel_score";
import { setUpTools } from "./panel_tools";
import { setUpView } from "./panel_view";
import { listen } from "./pointer";
import { setUpShortcuts } from "./shortcuts";
import { begin, setUpStart } from "./start";

async function main(): Promise<void> {
  const app = new App();
  for (const setUp of [
    setUpStart,
    setUpTools,
    setUpObjects,
    setUpHistory,
    setUpScore,
    setUpView,
    setUpSave,
    setUpShortcuts,
  ]) {
    setUp(app);
  }
  try {
    await app.viewer.attach(element("view", HTMLCanvasElement));
  } catch (error) {
    app.tasks.complain(error);
    return;
  }
  listen(element("marks", HTMLCanvasElement), app.viewer, {
    get tool() {
      return app.tool;
    },
    click: (at, positive) => void app.click(at, positive),
    drag: (first, second, plane, done) => app.drag(first, second, plane, done),
    hover: (at) => (element("place").textContent = at && app.case ? readout(app, at) : ""),
  });
  app.ready();
  begin(app);
}

function readout(app: App, at: Triple): string {
  const place = placeOf(at, app.viewer.turn).join(", ");
  return `voxel (z, y, x) ${place}   value ${Number(app.viewer.valueAt(at).toPrecision(5))}`;
}

void main();
