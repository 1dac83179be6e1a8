// Getting an image in: the card in the middle, files dropped anywhere, the API key.

import type { App } from "./app";
import { element } from "./elements";
import * as keeping from "./keep";
import { openDemo, openFile, resume } from "./sessions";

export function setUpStart(app: App): void {
  const input = element("file", HTMLInputElement);
  input.onchange = () => {
    const file = input.files?.[0];
    input.value = "";
    if (file) void openFile(app, file, choice());
  };
  for (const id of ["demo", "demo-again"]) element(id).onclick = () => void openDemo(app);

  const stage = element("stage");
  document.ondragover = (event) => {
    event.preventDefault();
    stage.classList.add("over");
  };
  document.ondragleave = () => stage.classList.remove("over");
  document.ondrop = (event) => {
    event.preventDefault();
    stage.classList.remove("over");
    const file = event.dataTransfer?.files[0];
    if (file) void openFile(app, file, choice());
  };

  const keyForm = element("key-form", HTMLFormElement);
  app.tasks.onRefused = (status) => {
    if (status === 401) keyForm.hidden = false;
  };
  keyForm.onsubmit = (event) => {
    event.preventDefault();
    app.useKey(element("key", HTMLInputElement).value);
    keyForm.hidden = true;
    app.tasks.say("");
    begin(app);
  };

  const goOn = element("resume", HTMLButtonElement);
  goOn.onclick = () => {
    const id = keeping.lastSession();
    if (id) void resume(app, id);
  };
  app.onChange(() => {
    element("title").textContent = app.case ? app.kept.name : "";
    goOn.hidden = !keeping.lastSession();
  });
}

/** Open the session of the address, if it names one. */
export function begin(app: App): void {
  const id = keeping.sessionInAddress();
  if (id) void resume(app, id);
}

function choice(): Record<string, string> {
  const fields = ["channel", "time"].map((id) => element(id, HTMLInputElement));
  return Object.fromEntries(fields.filter((f) => f.value).map((f) => [f.id, f.value]));
}
