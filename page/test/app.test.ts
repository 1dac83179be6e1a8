import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import type { SessionInfo } from "../src/api";
import { App } from "../src/app";
import type { Part } from "../src/arrays";
import { Case } from "../src/case";
import type { Triple, Turn } from "../src/geometry";
import type { Said } from "../src/history";
import { setUpObjects } from "../src/panel_objects";
import { setUpScore } from "../src/panel_score";
import { end, loadReference } from "../src/sessions";
import { setUpShortcuts } from "../src/shortcuts";

const SHAPE: Triple = [8, 8, 8];
const TURN: Turn = { dims: SHAPE, perm: [1, 2, 3] };

/** As much of an element as the page uses; without a tag, one of index.html. */
class Thing {
  readonly dataset: Record<string, string> = {};
  readonly attributes = new Map<string, string>();
  readonly classList = { add() {}, remove() {}, toggle() {} };
  children: Thing[] = [];
  value = "";
  textContent = "";
  onclick?: () => void;
  onchange?: () => void;
  onblur?: () => void;
  private parent: Thing | null = null;

  constructor(readonly tag = "") {}

  get options(): Thing[] {
    return this.children;
  }
  append(...things: (Thing | string)[]): void {
    for (const thing of things) if (thing instanceof Thing) this.insertBefore(thing, null);
  }
  insertBefore(thing: Thing, next: Thing | null): void {
    thing.remove();
    const at = next ? this.children.indexOf(next) : this.children.length;
    this.children.splice(at, 0, thing);
    thing.parent = this;
  }
  replaceChildren(...things: Thing[]): void {
    for (const child of [...this.children]) child.remove();
    this.append(...things);
  }
  /** What is taken off the page, or moved on it, loses the focus. */
  remove(): void {
    if (this.children.concat(this).includes(focused!)) focused = null;
    if (this.parent) this.parent.children = this.parent.children.filter((c) => c !== this);
    this.parent = null;
  }
  setAttribute(name: string, value: string): void {
    this.attributes.set(name, value);
  }
  removeAttribute(): void {}
}

let focused: Thing | null = null;
let things: Map<string, Thing>;
let keydown: (event: object) => void;

function thing(id: string): Thing {
  if (!things.has(id)) things.set(id, new Thing());
  return things.get(id)!;
}

/** What `instanceof` asks: elements of index.html are of every kind. */
function kind(tag: string): object {
  const isOne = (it: unknown) => it instanceof Thing && (!it.tag || !tag || it.tag === tag);
  return { [Symbol.hasInstance]: isOne };
}

const BROWSER = {
  HTMLElement: kind(""),
  HTMLCanvasElement: kind("canvas"),
  HTMLButtonElement: kind("button"),
  HTMLDialogElement: kind("dialog"),
  HTMLInputElement: kind("input"),
  HTMLProgressElement: kind("progress"),
  HTMLSelectElement: kind("select"),
  Option: class extends Thing {
    constructor(text: string) {
      super("option");
      this.value = text;
    }
  },
  sessionStorage: { getItem: () => null },
  window: { devicePixelRatio: 1 },
  document: {
    body: new Thing("body"),
    getElementById: thing,
    querySelector: (css: string) => thing(css.slice(1)),
    createElement: (tag: string) => new Thing(tag),
    createElementNS: (_: string, tag: string) => new Thing(tag),
    addEventListener: (_: string, listener: typeof keydown) => (keydown = listener),
    get activeElement() {
      return focused;
    },
  },
};
for (const [name, value] of Object.entries(BROWSER)) {
  Object.defineProperty(globalThis, name, { value, configurable: true });
}

/** A server of several sessions: every request is written down, prompts take a while. */
class Server {
  readonly asked: [string, unknown][] = [];
  readonly infos = new Map<string, SessionInfo>();

  info(id: string): SessionInfo {
    const objects = [{ name: "a", label: 1 }];
    const fresh = { id, shape: SHAPE, objects, current: "a", history: [], cursor: 0 };
    this.infos.set(id, this.infos.get(id) ?? fresh);
    return structuredClone(this.infos.get(id)!);
  }

  async json(method: string, path: string, body?: unknown): Promise<SessionInfo> {
    const id = path.split("/")[2];
    if (method === "POST") await this.change(id, path, body);
    return this.info(id);
  }

  async array(method: string, path: string, body?: unknown): Promise<Part> {
    const id = path.split("/")[2];
    if (method === "POST") await this.change(id, path, body);
    return voxel([1, 1, 1]);
  }

  async send(_: string, path: string): Promise<void> {
    this.asked.push([path, undefined]);
  }

  async upload(path: string): Promise<never> {
    this.asked.push([path, undefined]);
    throw new Error("no reference");
  }

  private async change(id: string, path: string, body: unknown): Promise<void> {
    this.asked.push([path, body]);
    await new Promise((resolve) => setTimeout(resolve, 5));
    const info = this.info(id);
    if (path.endsWith("/box")) info.history.push({ kind: "box", ...(body as object) } as Said);
    info.cursor = info.history.length;
    if (path.endsWith("/objects")) info.objects.push({ ...(body as { name: string }), label: 2 });
    if (path.endsWith("/rename")) info.objects[0].name = (body as { to: string }).to;
    this.infos.set(id, info);
  }
}

function voxel(lo: Triple, label = 1): Part {
  return { shape: SHAPE, lo, size: [1, 1, 1], voxels: Uint8Array.of(label) };
}

let server: Server;
let app: App;

function session(id: string): Promise<Case> {
  return Case.open(app.api, server.info(id), new AbortController().signal);
}

/** Let everything that was asked for be done. */
async function rest(): Promise<void> {
  await app.tasks.run("Resting", async () => {});
  await new Promise((resolve) => setTimeout(resolve));
}

/** Begin to open another session; it takes a while. */
function open(id: string): void {
  void app.tasks.run("Opening", async () => {
    await new Promise((resolve) => setTimeout(resolve, 5));
    await app.show(await session(id), { name: id, colours: [] }, new ArrayBuffer(0));
  });
}

beforeEach(async () => {
  focused = null;
  things = new Map();
  server = new Server();
  app = new App();
  Object.assign(app.api, {
    json: server.json.bind(server),
    array: server.array.bind(server),
    send: server.send.bind(server),
    upload: server.upload.bind(server),
  });
  const turn = structuredClone(TURN);
  const screen = { isEmpty: true, turn, at: [0, 0, 0], goTo() {}, setMasks() {}, async show() {} };
  Object.defineProperty(app, "viewer", { value: screen });
  app.case = await session("A");
});

// Prompts ------------------------------------------------------------------------------------

test("two boxes that are drawn in a row are both segmented", async () => {
  const first = { lo: [1, 1, 1], hi: [1, 3, 3] };
  const second = { lo: [5, 4, 4], hi: [5, 6, 6] };
  app.drag([1, 1, 1], [3, 3, 1], "axial", true);
  app.drag([4, 4, 5], [6, 6, 5], "axial", true);
  await rest();
  assert.deepEqual(server.asked.map(([, box]) => box), [first, second]);
  assert.deepEqual([app.draft, app.tool], [null, "click"]);
});

test("a box that is being drawn outlives the answer to the one before", async () => {
  app.drag([1, 1, 1], [3, 3, 1], "axial", true);
  app.drag([4, 4, 5], [6, 6, 5], "axial", false);
  await rest();
  assert.deepEqual(app.draft, { lo: [5, 4, 4], hi: [5, 6, 6] });
  assert.equal(app.tool, "box");
});

test("the box of the mask is segmented again", async () => {
  app.drag([1, 1, 1], [3, 3, 1], "axial", true);
  await rest();
  app.tool = "box";
  await app.segmentBox();
  assert.deepEqual(server.asked[1], server.asked[0]);
  assert.equal(app.tool, "click");
});

test("what was asked of one session does not go to the next", async () => {
  open("B");
  void app.click([2, 2, 2], true);
  void app.segmentBox();
  void app.act("Undoing", (shown) => shown.undo());
  void loadReference(app, new File([], "truth.nii"));
  await end(app);
  assert.equal(app.case?.info.id, "B");
  assert.deepEqual(server.asked, []);
  assert.match(thing("words").textContent, /nothing was deleted/);
});

test("a click is where the image was", async () => {
  const clicked = app.click([1, 2, 3], true);
  app.viewer.turn.perm.reverse();
  await clicked;
  assert.deepEqual(server.asked, [["/sessions/A/click", { at: [3, 2, 1], positive: true }]]);
});

// Objects and keys ---------------------------------------------------------------------------

/** Colour, name and button of every object. */
function rows(): Thing[][] {
  return thing("objects").children.map((row) => row.children);
}

test("a name that is typed survives answers and new objects", async () => {
  setUpObjects(app);
  app.changed();
  const name = (focused = rows()[0][1]);
  name.value = "liv";
  void app.click([2, 2, 2], true);
  await app.act("Adding an object", (shown) => shown.change("", { name: "b" }));
  assert.equal(focused, name);
  assert.equal(rows()[0][1], name);
  assert.deepEqual(rows().map(([, field]) => field.value), ["liv", "b"]);

  name.value = "liver";
  name.onchange!();
  focused = null;
  name.onblur!();
  await rest();
  assert.deepEqual(server.asked[2][1], { name: "a", to: "liver" });
  assert.equal(name.value, "liver");
});

test("rows follow what the server knows", async () => {
  setUpObjects(app);
  const objects = [2, 3].map((label) => ({ name: `object ${label}`, label }));
  app.case!.info = { ...app.case!.info, objects, current: "object 3" };
  app.changed();
  assert.deepEqual(rows().map(([, , pick]) => pick.textContent), ["use", "in use"]);
  const name = (focused = rows()[0][1]);

  const others = ["x", "y"].map((called, n) => ({ name: called, label: n + 1 }));
  server.infos.set("B", { ...server.info("B"), objects: others });
  app.case = await session("B");
  app.changed();
  assert.deepEqual(rows().map(([, field]) => field.value), ["x", "y"]);
  assert.equal(focused, name);
});

test("a key that is held acts once, but goes on through slices and zoom", () => {
  setUpShortcuts(app);
  const clicks: Triple[] = [];
  app.click = async (at) => void clicks.push(at);
  let moves = 0;
  app.viewer.goTo = app.viewer.zoomBy = () => void moves++;
  const hold = (key: string) => {
    for (const repeat of [false, true]) keydown({ key, repeat, preventDefault() {} });
  };
  hold("a");
  assert.equal(clicks.length, 1);
  for (const key of ["ArrowLeft", "PageUp", "+", "-"]) hold(key);
  assert.equal(moves, 8);
});

// Scores -------------------------------------------------------------------------------------

test("the labels to choose from are those of the reference", () => {
  setUpScore(app);
  for (const label of [3, 7]) {
    app.case!.compareWith(voxel([1, 1, 1], label), label);
    app.changed();
    assert.deepEqual(thing("reference-label").options.map((o) => o.value), [String(label)]);
  }
});

test("a curve of what was shown before is not drawn", async () => {
  setUpScore(app);
  const shown = app.case!;
  shown.compareWith(voxel([1, 1, 1]), 1);
  const changes = [
    () => (shown.info = { ...shown.info }),
    () => shown.compareWith(voxel([2, 2, 2]), 1),
    () => (shown.referenceLabel = 2),
    () => (app.case = null),
  ];
  shown.curve = async () => [0.5];
  for (const change of changes) {
    app.changed();
    change();
    await rest();
    assert.equal(thing("score-words").textContent, "");
  }
  app.case = shown;
  app.changed();
  await rest();
  assert.match(thing("score-words").textContent, /^DSC 0.500 at step 0/);
});
