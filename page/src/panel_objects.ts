// The objects: colour, name, which one prompts go to.

import type { ObjectInfo } from "./api";
import type { App } from "./app";
import { element, make } from "./elements";

export function setUpObjects(app: App): void {
  element("object-add").onclick = () => {
    const name = freeName(app.case?.info.objects ?? []);
    void app.act("Adding an object", async (open) => {
      await open.change("", { name });
      app.draft = null;
      app.tool = "box";
    });
  };
  element("object-remove").onclick = () => {
    void app.act("Removing the object", (open) =>
      open.change("/remove", { name: open.info.current }),
    );
  };
  app.onChange(() => {
    const { objects = [], current } = app.case?.info ?? {};
    element("object-remove", HTMLButtonElement).disabled = objects.length < 2;
    element("objects").replaceChildren(
      ...objects.map((object) => row(app, object, object.name === current)),
    );
  });
}

function row(app: App, object: ObjectInfo, isCurrent: boolean): HTMLLIElement {
  const colour = make("input", {
    type: "color",
    value: app.colours.get(object.label) ?? "#ffffff",
    "aria-label": `Colour of ${object.name}`,
  });
  colour.onchange = () => app.setColour(object.label, colour.value);

  const name = make("input", { type: "text", "aria-label": `Name of object ${object.label}` });
  name.value = object.name;
  name.onchange = () => {
    void app.act("Renaming", (open) =>
      open.change("/rename", { name: object.name, to: name.value }),
    );
  };

  const pick = make("button", { type: "button", "aria-current": String(isCurrent) });
  pick.textContent = isCurrent ? "in use" : "use";
  pick.setAttribute("aria-label", `${isCurrent ? "In use" : "Use"}: ${object.name}`);
  pick.onclick = () => {
    void app.act("Selecting", async (open) => {
      await open.change("/select", { name: object.name });
      app.draft = null;
    });
  };
  return make("li", {}, colour, name, pick);
}

function freeName(objects: ObjectInfo[]): string {
  const taken = new Set(objects.map((o) => o.name));
  let number = objects.length + 1;
  while (taken.has(`object ${number}`)) number++;
  return `object ${number}`;
}
