import { expect, it } from 'vitest';
import { sideBySide } from '../../../concurrency/side-by-side.ts';

it.each([1, 3, 10])('does everything, at most %i at a time', async (atOnce) => {
  let underWay = 0;
  let most = 0;
  const done: number[] = [];
  await sideBySide([1, 2, 3, 4, 5], atOnce, async (n) => {
    underWay += 1;
    most = Math.max(most, underWay);
    await Promise.resolve();
    underWay -= 1;
    done.push(n);
  });
  expect(done.sort()).toEqual([1, 2, 3, 4, 5]);
  expect(most).toBe(Math.min(atOnce, 5));
});

it('begins nothing after a failure, and waits for what has begun', async () => {
  const gate = Promise.withResolvers<void>();
  const begun: number[] = [];
  let hasEnded = false;
  const all = sideBySide([1, 2, 3, 4], 2, async (n) => {
    begun.push(n);
    if (n === 1) throw new Error('no');
    await gate.promise;
    hasEnded = true;
  });
  gate.resolve();
  await expect(all).rejects.toThrow('no');
  expect(hasEnded).toBe(true);
  expect(begun).toEqual([1, 2]);
});
