// The Dice coefficient after every step, where there is a reference.

import type { App } from "./app";
import { element } from "./elements";
import { labelsOf } from "./score";
import { loadReference } from "./sessions";

const SVG = "http://www.w3.org/2000/svg";
const FRAME = { left: 26, right: 294, top: 8, bottom: 92 };

export function setUpScore(app: App): void {
  const input = element("reference", HTMLInputElement);
  input.onchange = () => {
    const file = input.files?.[0];
    input.value = "";
    if (file) void loadReference(app, file);
  };
  const select = element("reference-label", HTMLSelectElement);
  select.onchange = () => {
    if (app.case) app.case.referenceLabel = Number(select.value);
    app.changed();
  };
  app.onChange(() => {
    showLabels(app, select);
    void showCurve(app).catch((error) => app.tasks.complain(error));
  });
}

function showLabels(app: App, select: HTMLSelectElement): void {
  const reference = app.case?.reference;
  element("score").hidden = !reference;
  const labels = reference ? labelsOf(reference) : [];
  element("reference-label-row").hidden = labels.length < 2;
  const shown = Array.from(select.options, (option) => option.value);
  if (shown.join() !== labels.join()) {
    select.replaceChildren(...labels.map((n) => new Option(String(n))));
  }
  select.value = String(app.case?.referenceLabel);
}

async function showCurve(app: App): Promise<void> {
  const open = app.case;
  if (!open?.reference) return;
  const { info, reference, referenceLabel } = open;
  const { cursor } = info;
  const scores = await open.curve();
  const isShown = app.case === open && open.info === info;
  const isMeant = open.reference === reference && open.referenceLabel === referenceLabel;
  if (!isShown || !isMeant || !scores.length) return; // a later call draws
  const steps = Math.max(scores.length - 1, 1);
  const x = (step: number) => FRAME.left + ((FRAME.right - FRAME.left) * step) / steps;
  const y = (score: number) => FRAME.bottom + (FRAME.top - FRAME.bottom) * score;
  const points = scores.map((score, step) => `${x(step)},${y(score)}`).join(" ");
  document.querySelector("#curve")!.replaceChildren(
    shape("polyline", {
      class: "frame",
      points: `${FRAME.left},${FRAME.top} ${FRAME.left},${FRAME.bottom} ${FRAME.right},${FRAME.bottom}`,
    }),
    words(4, y(1) + 4, "1"),
    words(4, y(0.5) + 4, "0.5"),
    words(4, y(0) + 4, "0"),
    words(FRAME.left, 106, "step 0"),
    words(FRAME.right - 8, 106, String(scores.length - 1)),
    shape("polyline", { class: "path", points }),
    ...scores.map((score, step) =>
      shape("circle", {
        class: step === cursor ? "now" : "",
        cx: String(x(step)),
        cy: String(y(score)),
        r: step === cursor ? "4.5" : "3",
      }),
    ),
  );
  element("score-words").textContent =
    `DSC ${scores[cursor].toFixed(3)} at step ${cursor} (1 is the reference itself)`;
}

function shape(name: string, attributes: Record<string, string>): SVGElement {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function words(x: number, y: number, text: string): SVGElement {
  const made = shape("text", { x: String(x), y: String(y) });
  made.textContent = text;
  return made;
}
