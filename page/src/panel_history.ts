// What was said about the current object; every entry leads back to its mask.

import type { App } from "./app";
import { element, make } from "./elements";
import { wordsOf } from "./history";

export function setUpHistory(app: App): void {
  element("undo").onclick = () => void app.act("Undoing", (open) => open.undo());
  element("redo").onclick = () => void app.act("Redoing", (open) => open.redo());
  element("reset").onclick = () => void app.act("Emptying the object", (open) => open.reset());
  app.onChange(() => {
    const { history = [], cursor = 0 } = app.case?.info ?? {};
    element("undo", HTMLButtonElement).disabled = cursor === 0;
    element("redo", HTMLButtonElement).disabled = cursor === history.length;
    element("reset", HTMLButtonElement).disabled = cursor === 0;
    const words = ["Empty", ...history.map(wordsOf)];
    const rows = words.map((text, step) => {
      const button = make("button", { type: "button", "aria-current": String(step === cursor) });
      button.textContent = `${step}. ${text}`;
      button.classList.toggle("undone", step > cursor);
      button.onclick = () => void app.act("Going there", (open) => open.jump(step));
      return make("li", {}, button);
    });
    element("history").replaceChildren(...rows);
    rows[cursor]?.scrollIntoView({ block: "nearest" });
  });
}
