import assert from "node:assert/strict";
import { test } from "node:test";
import {
  fileOfRas,
  fracOfRas,
  rasOfFile,
  rasOfFrac,
  stridesOf,
  type Triple,
  type Turn,
} from "../src/geometry";

/** All 48 ways a file's axes can run. */
function turns(): Turn[] {
  const orders: Triple[] = [
    [1, 2, 3],
    [1, 3, 2],
    [2, 1, 3],
    [2, 3, 1],
    [3, 1, 2],
    [3, 2, 1],
  ];
  return orders.flatMap((order) =>
    [...Array(8).keys()].map((bits) => ({
      dims: [5, 7, 11] as Triple,
      perm: order.map((p, a) => (bits & (1 << a) ? -p : p)) as Triple,
    })),
  );
}

test("file order and RAS order lead back to each other", () => {
  for (const turn of turns()) {
    const seen = new Set<string>();
    for (let n = 0; n < 5 * 7 * 11; n++) {
      const ras: Triple = [n % 5, Math.floor(n / 5) % 7, Math.floor(n / 35)];
      const file = fileOfRas(ras, turn);
      seen.add(file.join());
      assert.deepEqual(rasOfFile(file, turn), ras);
    }
    assert.equal(seen.size, 5 * 7 * 11);
  }
});

test("a file that runs to the left, back and feet counts from the other end", () => {
  const lpi: Turn = { dims: [5, 7, 11], perm: [-1, -2, -3] };
  assert.deepEqual(fileOfRas([0, 1, 10], lpi), [4, 5, 0]);
  // stored as (front, head, right): its first axis is RAS axis 1
  const ars: Turn = { dims: [5, 7, 11], perm: [3, 1, 2] };
  assert.deepEqual(fileOfRas([2, 3, 4], ars), [3, 4, 2]);
});

test("the centre of a voxel lies in it, and so does all up to its edge", () => {
  const turn = turns()[0];
  for (const ras of [[0, 0, 0], [4, 6, 10], [2, 5, 7]] as Triple[]) {
    const frac = fracOfRas(ras, turn);
    assert.deepEqual(rasOfFrac(frac, turn), ras);
    assert.deepEqual(rasOfFrac(frac.map((f, a) => f + 0.49 / turn.dims[a]), turn), ras);
  }
  assert.deepEqual(rasOfFrac([1, 1, 1], turn), [4, 6, 10]);
  assert.deepEqual(rasOfFrac([-0.1, 0, 2], turn), [0, 0, 10]);
});

test("strides find the voxel in an array in RAS order", () => {
  for (const turn of turns()) {
    const { start, step } = stridesOf(turn);
    for (const ras of [[0, 0, 0], [4, 6, 10], [1, 2, 3]] as Triple[]) {
      const [i, j, k] = fileOfRas(ras, turn);
      const at = start + i * step[0] + j * step[1] + k * step[2];
      assert.equal(at, ras[0] + 5 * (ras[1] + 7 * ras[2]));
    }
  }
});
