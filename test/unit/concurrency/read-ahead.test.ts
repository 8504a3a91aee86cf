import { expect, it } from 'vitest';
import { readAhead } from '../../../concurrency/read-ahead.ts';

async function* count(to: number, read: number[] = []): AsyncGenerator<number> {
  try {
    for (let n = 0; n < to; n++) {
      read.push(n);
      yield n;
    }
  } finally {
    read.push(-1);
  }
}

async function all<T>(from: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of from) found.push(item);
  return found;
}

it('gives results in the order of the items, whichever is done first', async () => {
  const gates = Array.from({ length: 3 }, () => Promise.withResolvers<void>());
  const results = all(readAhead(count(3), 3, async (n) => gates[n]?.promise.then(() => n * 2)));
  for (const gate of gates.toReversed()) gate.resolve();
  expect(await results).toEqual([0, 2, 4]);
});

it.each([1, 2, 3, 10])('at a depth of %i, has no more under way', async (depth) => {
  let underWay = 0;
  let most = 0;
  const work = async (n: number) => {
    underWay += 1;
    most = Math.max(most, underWay);
    await new Promise(setImmediate);
    return n;
  };
  for await (const _ of readAhead(count(20), depth, work)) underWay -= 1;
  expect(most).toBe(depth);
});

it('fails where its turn comes, and reads no further than that', async () => {
  const seen: number[] = [];
  const read: number[] = [];
  const failing = async () => {
    for await (const n of readAhead(count(100, read), 3, (n) => (n === 5 ? Promise.reject(new Error('five')) : n))) {
      seen.push(n);
    }
  };
  await expect(failing()).rejects.toThrow('five');
  expect(seen).toEqual([0, 1, 2, 3, 4]);
  await expect.poll(() => read.at(-1)).toBe(-1);
  expect(read.length).toBeLessThan(12);
});

it('a reader that leaves ends the items; one that waits for an item that never comes can leave, too', async () => {
  const read: number[] = [];
  for await (const n of readAhead(count(100, read), 3, (n) => n)) if (n === 1) break;
  await expect.poll(() => read.at(-1)).toBe(-1);
  const stuck = async function* () {
    yield 1;
    await new Promise(() => undefined);
  };
  for await (const n of readAhead(stuck(), 3, (n) => n)) {
    expect(n).toBe(1);
    break;
  }
});
