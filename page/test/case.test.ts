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
