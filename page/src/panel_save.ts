// Taking masks away, and leaving nothing behind.

import type { App } from "./app";
import { element, make } from "./elements";
import { end } from "./sessions";

const SURE = "Press again to delete";

export function setUpSave(app: App): void {
  const what = element("what", HTMLSelectElement);
  const format = element("format", HTMLSelectElement);
  element("download").onclick = () =>
    void app.tasks.run("Downloading", async (stop, progress) => {
      if (!app.case) return;
      const query = new URLSearchParams({ what: what.value, format: format.value });
      const bytes = await app.api.bytes(`${app.case.path}/export?${query}`, stop, progress);
      const address = URL.createObjectURL(new Blob([bytes]));
      const name = `${app.stem}-${what.value}.${format.value}`;
      make("a", { href: address, download: name }).click();
      URL.revokeObjectURL(address);
      app.tasks.say(`Downloaded ${name}.`);
    });

  const button = element("end", HTMLButtonElement);
  const words = button.textContent;
  button.onclick = () => {
    if (button.textContent === SURE) void end(app);
    else button.textContent = SURE;
  };
  button.onblur = () => (button.textContent = words);
}
