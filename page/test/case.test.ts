import assert from "node:assert/strict";
import { test } from "node:test";
import type { Api, SessionInfo } from "../src/api";
import type { Part } from "../src/arrays";
import { Case } from "../src/case";
import type { Triple } from "../src/geometry";
import type { Said } from "../src/history";

const A: Triple = [1, 1, 1];
const B: Triple = [2, 2, 2];

function click(at: Triple): Said {
  return { kind: "click", at, positive: true };
}

/** A server with one object, whose mask has as many voxels as steps count. */
class Server {
  /** Whether a click counts before its answer is stopped. */
  takes = true;

  constructor(
    public history: Said[],
    public cursor: number,
  ) {}

  async json(): Promise<SessionInfo> {
    const objects = [{ name: "object 1", label: 1 }];
    const { history, cursor } = this;
    return { id: "x", shape: [4, 4, 4], objects, current: "object 1", history, cursor };
  }

  async array(_: string, path: string, body?: unknown, stop?: AbortSignal): Promise<Part> {
    if (path.endsWith("/click") && this.takes) {
      const { at } = body as { at: Triple };
      this.history = [...this.history.slice(0, this.cursor), click(at)];
      this.cursor++;
    }
    if (path.endsWith("/undo")) this.cursor--;
    if (stop?.aborted) throw new DOMException("stopped", "AbortError");
    return { shape: [4, 4, 4], lo: [0, 0, 0], size: [1, 1, this.cursor], voxels: ones(this.cursor) };
  }
}

function ones(count: number): Uint8Array {
  return new Uint8Array(count).fill(1);
}

async function opened(server: Server): Promise<Case> {
  const never = new AbortController().signal;
  return Case.open(server as unknown as Api, await server.json(), never);
}

test("a cancelled prompt that counted is undone, whatever was undone before it", async () => {
  for (const at of [B, A]) {
    const server = new Server([click(A), click(B)], 1);
    const open = await opened(server);
    await assert.rejects(open.click(at, true, AbortSignal.abort()), /stopped/);
    assert.equal(server.cursor, 1);
    assert.equal(open.info.cursor, 1);
    assert.equal(open.mask.voxels.length, 1);
  }
});

test("a cancelled prompt that did not count takes nothing back", async () => {
  const server = new Server([click(A), click(B)], 1);
  server.takes = false;
  const open = await opened(server);
  await assert.rejects(open.click(B, true, AbortSignal.abort()), /stopped/);
  assert.deepEqual([server.cursor, open.info.cursor, open.info.history.length], [1, 1, 2]);
});

/** A server with two objects of one step each; a change counts at once and is answered later. */
class TwoObjects {
  current = "a";
  /** Past masks that wait for `answer`; null while they are answered at once. */
  waiting: (() => void)[] | null = null;
  refuses = false;

  async json(_?: string, path?: string, body?: { name: string }): Promise<SessionInfo> {
    if (path?.endsWith("/select")) {
      this.current = body!.name;
      for (let n = 0; n < 20; n++) await null; // the mask of a past step is faster
    }
    const objects = [
      { name: "a", label: 1 },
      { name: "b", label: 2 },
    ];
    const history: Said[] = [click(this.current === "a" ? A : B)];
    return { id: "x", shape: [4, 4, 4], objects, current: this.current, history, cursor: 1 };
  }

  async array(_: string, path: string): Promise<Part> {
    const { waiting } = this;
    if (waiting) await new Promise<void>((resolve) => waiting.push(resolve));
    if (this.refuses) throw new Error("no such step");
    return path.endsWith("step=0") ? voxel(null) : voxel(this.current === "a" ? A : B);
  }
}

function voxel(at: Triple | null): Part {
  const size: Triple = at ? [1, 1, 1] : [0, 0, 0];
  return { shape: [4, 4, 4], lo: at ?? A, size, voxels: ones(size[0]) };
}

async function openedTwo(server: TwoObjects): Promise<Case> {
  const never = new AbortController().signal;
  const open = await Case.open(server as unknown as Api, await server.json(), never);
  open.compareWith(voxel(A), 1);
  return open;
}

test("another reference has scores of its own", async () => {
  const open = await openedTwo(new TwoObjects());
  assert.deepEqual(await open.curve(), [0, 1]);
  open.compareWith(voxel(B), 1);
  assert.deepEqual(await open.curve(), [0, 0]);
});

test("a curve on its way keeps nothing for another reference", async () => {
  const server = new TwoObjects();
  const open = await openedTwo(server);
  const waiting: (() => void)[] = (server.waiting = []);
  const late = open.curve();
  open.compareWith(voxel(B), 1);
  server.waiting = null;
  waiting.forEach((answer) => answer());
  await late;
  assert.deepEqual(await open.curve(), [0, 0]);
});

test("a curve keeps nothing of an object that was selected meanwhile", async () => {
  const open = await openedTwo(new TwoObjects());
  const [during] = await Promise.all([open.curve(), open.change("/select", { name: "b" })]);
  assert.deepEqual(during, []);
  assert.deepEqual(await open.curve(), [0, 0]);
  await open.change("/select", { name: "a" });
  assert.deepEqual(await open.curve(), [0, 1]);
});

test("a curve tells nothing once another object is selected", async () => {
  for (const refused of [false, true]) {
    const server = new TwoObjects();
    const open = await openedTwo(server);
    const waiting: (() => void)[] = (server.waiting = []);
    const late = open.curve();
    await open.change("/select", { name: "b" });
    server.waiting = null;
    server.refuses = refused; // a step that b does not have
    waiting.forEach((answer) => answer());
    assert.deepEqual(await late, []);
  }
});

test("a curve that the server refuses is an error", async () => {
  const server = new TwoObjects();
  const open = await openedTwo(server);
  server.refuses = true;
  await assert.rejects(open.curve(), /no such step/);
});
