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
  const rows = new Map<number, Row>();
  app.onChange(() => {
    const { objects = [], current } = app.case?.info ?? {};
    element("object-remove", HTMLButtonElement).disabled = objects.length < 2;
    showRows(app, rows, objects, current);
  });
}

/** One object's line in the list; it stays the same for as long as its label is in use. */
interface Row {
  item: HTMLLIElement;
  show(object: ObjectInfo, isCurrent: boolean): void;
}

/** Rows stay in their place, so that a field which is typed in keeps the keys. */
function showRows(app: App, rows: Map<number, Row>, objects: ObjectInfo[], current?: string): void {
  const labels = new Set(objects.map((o) => o.label));
  for (const [label, { item }] of rows) {
    if (labels.has(label)) continue;
    item.remove();
    rows.delete(label);
  }
  const list = element("objects");
  objects.forEach((object, n) => {
    const row = rows.get(object.label) ?? makeRow(app, object);
    rows.set(object.label, row);
    row.show(object, object.name === current);
    if (list.children[n] !== row.item) list.insertBefore(row.item, list.children[n] ?? null);
  });
}

function makeRow(app: App, first: ObjectInfo): Row {
  const { label } = first;
  let object = first;
  let shownIn = app.case;
  const colour = make("input", { type: "color" });
  colour.onchange = () => app.setColour(label, colour.value);

  const name = make("input", { type: "text", "aria-label": `Name of object ${label}` });
  name.onchange = () => {
    const to = name.value;
    void app.act("Renaming", (open) => open.change("/rename", { name: object.name, to }));
  };
  name.onblur = () => (name.value = object.name); // a refused name would stay

  const pick = make("button", { type: "button" });
  pick.onclick = () => {
    void app.act("Selecting", async (open) => {
      await open.change("/select", { name: object.name });
      app.draft = null;
    });
  };

  /** A field that is typed in stays as it is, unless its session is gone. */
  const show = (now: ObjectInfo, isCurrent: boolean) => {
    const put = (field: HTMLInputElement, value: string) => {
      if (field !== document.activeElement || app.case !== shownIn) field.value = value;
    };
    put(colour, app.colours.get(label) ?? "#ffffff");
    put(name, now.name);
    [object, shownIn] = [now, app.case];
    colour.setAttribute("aria-label", `Colour of ${now.name}`);
    pick.textContent = isCurrent ? "in use" : "use";
    pick.setAttribute("aria-current", String(isCurrent));
    pick.setAttribute("aria-label", `${isCurrent ? "In use" : "Use"}: ${now.name}`);
  };
  return { item: make("li", {}, colour, name, pick), show };
}

function freeName(objects: ObjectInfo[]): string {
  const taken = new Set(objects.map((o) => o.name));
  let number = objects.length + 1;
  while (taken.has(`object ${number}`)) number++;
  return `object ${number}`;
}
