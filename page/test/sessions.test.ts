import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { Refused, type SessionInfo } from "../src/api";
import type { App } from "../src/app";
import type { Part } from "../src/arrays";
import type { Case } from "../src/case";
import * as keeping from "../src/keep";
import { end, loadReference, openDemo, openFile, resume } from "../src/sessions";

const MASK: Part = { shape: [4, 4, 4], lo: [1, 1, 1], size: [1, 1, 1], voxels: Uint8Array.of(1) };
const FILE = new File(["image"], "head.nii");
const SENTENCE = "The reference has another shape.";

/** The parts of a browser that `keep.ts` writes to. */
class Browser {
  readonly items = new Map<string, string>();
  readonly references = new Map<string, unknown>();
  address = "";
  reloads = 0;

  constructor(keepsReferences: boolean) {
    const { items } = this;
    const known: Record<string, unknown> = {
      localStorage: {
        getItem: (key: string) => items.get(key) ?? null,
        setItem: (key: string, text: string) => items.set(key, text),
        removeItem: (key: string) => items.delete(key),
      },
      history: { replaceState: (_: null, __: string, to: string) => (this.address = to) },
      location: { pathname: "/", hash: "", reload: () => this.reloads++ },
      indexedDB: { open: () => (keepsReferences ? this.opening() : this.failing()) },
    };
    for (const [name, value] of Object.entries(known)) {
      Object.defineProperty(globalThis, name, { value, configurable: true });
    }
  }

  private failing(): object {
    const opening: Record<string, () => void> = {};
    queueMicrotask(() => opening.onerror());
    return opening;
  }

  private opening(): object {
    const opening: Record<string, unknown> = {};
    opening.result = { transaction: () => this.transaction(), close: () => {} };
    queueMicrotask(() => (opening.onsuccess as () => void)());
    return opening;
  }

  private transaction(): object {
    const { references } = this;
    const request: Record<string, unknown> = {};
    const transaction: Record<string, unknown> = {};
    const answer = (result: unknown): object => {
      request.result = result;
      queueMicrotask(() => {
        for (const call of [request.onsuccess, transaction.oncomplete]) (call as () => void)?.();
      });
      return request;
    };
    const store = {
      put: (value: unknown, key: string) => answer(references.set(key, value)),
      get: (key: string) => answer(references.get(key)),
      delete: (key: string) => answer(void references.delete(key)),
    };
    return Object.assign(transaction, { objectStore: () => store });
  }
}

/** A server that knows one session and refuses every mask file, and the page before it. */
class Page {
  case: Case | null = null;
  draft: unknown = null;
  words = "";
  ended: string[] = [];
  readonly stop = new AbortController();
  readonly tasks = {
    run: async (_: string, action: (stop: AbortSignal, progress: () => void) => Promise<void>) => {
      try {
        await action(this.stop.signal, () => {});
      } catch (error) {
        this.tasks.complain(error);
      }
    },
    complain: (error: unknown) =>
      (this.words = error instanceof Error ? error.message : String(error)),
  };
  readonly api = {
    json: async () => info(),
    array: async () => MASK,
    bytes: async () => new ArrayBuffer(0),
    send: async (_: string, path: string) => this.ended.push(path),
    upload: async (path: string): Promise<ArrayBuffer> => {
      if (path.includes("/reference")) throw new Refused(400, SENTENCE);
      return new TextEncoder().encode(JSON.stringify(info())).buffer as ArrayBuffer;
    },
  };

  async show(opened: Case): Promise<void> {
    this.case = opened;
  }
  changed(): void {}
  goTo(): void {}

  get app(): App {
    return this as unknown as App;
  }
}

function info(): SessionInfo {
  const objects = [{ name: "object 1", label: 1 }];
  return { id: "x", shape: [4, 4, 4], objects, current: "object 1", history: [], cursor: 0 };
}

let page: Page;
beforeEach(() => (page = new Page()));

test("an image opens where the browser keeps no references", async () => {
  const browser = new Browser(false);
  await openFile(page.app, FILE, {});
  assert.equal(page.case?.info.id, "x");
  assert.equal(page.words, "");
  assert.equal(browser.address, "#session=x");

  page = new Page();
  await openDemo(page.app);
  assert.equal(page.case?.reference, MASK);
  assert.deepEqual(page.draft, { lo: [1, 1, 1], hi: [1, 1, 1] });
  assert.match(page.words, /keeps nothing/);

  page = new Page();
  await resume(page.app, "x");
  assert.equal(page.case?.info.id, "x");
  assert.match(page.words, /^Opened without a reference: .*keeps nothing/);
});

test("a session opens without a reference that the server refuses", async () => {
  const browser = new Browser(true);
  browser.references.set("x", { name: "truth.nii", format: "nii", body: FILE });
  await resume(page.app, "x");
  assert.equal(page.case?.info.id, "x");
  assert.equal(page.case?.reference, null);
  assert.equal(page.words, `Opened without a reference: ${SENTENCE}`);
  assert.ok(browser.references.has("x"));

  page = new Page();
  page.stop.abort();
  await resume(page.app, "x");
  assert.equal(page.case, null);
});

test("a reference is shown where the browser cannot keep it", async () => {
  new Browser(false);
  await openFile(page.app, FILE, {});
  page.api.upload = async () => packed();
  let renders = 0;
  page.changed = () => void renders++;
  await loadReference(page.app, new File([], "truth.nii"));
  assert.equal(page.case?.reference?.voxels[0], 1);
  assert.equal(renders, 1);
  assert.match(page.words, /keeps nothing/);
});

test("a demo has its reference again after a reload", async () => {
  new Browser(true);
  await openDemo(page.app);
  page = new Page();
  await resume(page.app, "x");
  assert.equal(page.case?.reference, MASK);
  assert.equal(page.words, "");
});

test("a session that is deleted leaves nothing in the browser", async () => {
  const browser = new Browser(true);
  keeping.keep("y", { name: "other.nii", colours: [] });
  await keeping.keepReference("y", { name: "y.nii", format: "nii", body: FILE });
  await openDemo(page.app);
  assert.ok(browser.items.has("segvol-gru x"));
  await end(page.app);
  assert.deepEqual(page.ended, ["/sessions/x"]);
  assert.deepEqual([...browser.items.keys()], ["segvol-gru y"]);
  assert.deepEqual([...browser.references.keys()], ["y"]);
  assert.deepEqual([browser.address, browser.reloads], ["/", 1]);
});

test("a session is deleted where the browser keeps no references", async () => {
  const browser = new Browser(false);
  await openFile(page.app, FILE, {});
  await end(page.app);
  assert.deepEqual([browser.items.size, browser.address, browser.reloads], [0, "/", 1]);
});

/** The bytes of `MASK`. */
function packed(): ArrayBuffer {
  const { shape, lo, size } = MASK;
  const text = Buffer.from(JSON.stringify({ dtype: "uint8", shape, lo, size }));
  const head = Buffer.alloc(10);
  head.write("SGVA");
  head.writeUInt8(1, 4);
  head.writeUInt32LE(text.length, 6);
  return new Uint8Array(Buffer.concat([head, text, Buffer.of(1)])).buffer;
}
