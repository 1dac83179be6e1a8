// Planes, window, opacity, heat map.

import type { App } from "./app";
import { element } from "./elements";
import type { Layout } from "./viewer";

type Window = [number, number];

const CT_WINDOWS: Record<string, Window> = {
  // as `segvol_gru.data.preprocess.CT_WINDOWS`
  "CT soft tissue": [-160, 240],
  "CT lung": [-910, 590],
  "CT brain": [0, 80],
  "CT bone": [-500, 1300],
};
const MOST = "most voxels";
const ALL = "all values";
const OWN = "as typed";

export function setUpView(app: App): void {
  const opacity = element("opacity", HTMLInputElement);
  opacity.oninput = () => app.viewer.setMaskOpacity(opacity.valueAsNumber);

  const layout = element("layout", HTMLSelectElement);
  layout.onchange = () => app.viewer.setLayout(layout.value as Layout);
  app.onReady(() => {
    if (app.viewer.isSlow) layout.value = "planes";
    app.viewer.setLayout(layout.value as Layout);
    app.viewer.setMaskOpacity(opacity.valueAsNumber);
  });

  const heat = element("heat", HTMLInputElement);
  heat.onchange = () =>
    void app.act("Measuring doubt", (open) => open.showDoubt(heat.checked));

  const radiological = element("radiological", HTMLInputElement);
  radiological.onchange = () => app.viewer.setRadiological(radiological.checked);

  setUpWindow(app);
  app.onChange(() => {
    heat.checked = Boolean(app.case?.doubt);
  });
}

function setUpWindow(app: App): void {
  const preset = element("window", HTMLSelectElement);
  const fields = ["window-lo", "window-hi"].map((id) => element(id, HTMLInputElement));
  preset.replaceChildren(
    ...[MOST, ALL, ...Object.keys(CT_WINDOWS), OWN].map((name) => new Option(name)),
  );
  preset.onchange = () => {
    const { most, all } = app.viewer.ranges;
    const own: Record<string, Window> = { [MOST]: most, [ALL]: all, [OWN]: app.viewer.window };
    app.viewer.setWindow(...(CT_WINDOWS[preset.value] ?? own[preset.value]));
    show();
  };
  for (const field of fields) {
    field.onchange = () => {
      const [lo, hi] = fields.map((f) => f.valueAsNumber);
      if (!(lo < hi)) return app.tasks.complain("The window runs from a smaller to a larger value.");
      preset.value = OWN;
      app.viewer.setWindow(lo, hi);
    };
  }
  const show = () => {
    app.viewer.window.forEach((value, n) => {
      if (fields[n] !== document.activeElement) fields[n].value = String(Number(value.toPrecision(6)));
    });
  };
  let shown: unknown = null;
  app.onChange(() => {
    if (app.case === shown) return;
    shown = app.case;
    preset.value = MOST;
    show();
  });
}
