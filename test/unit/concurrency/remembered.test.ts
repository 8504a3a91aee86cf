import { expect, it } from 'vitest';
import { remembered } from '../../../concurrency/remembered.ts';

it('what was made once is kept, and what could not be made is tried again', async () => {
  let tries = 0;
  const ask = remembered(async () => {
    tries++;
    if (tries === 1) throw new Error('not yet');
    return tries;
  });
  const both = [ask(), ask()];
  for (const each of both) await expect(each).rejects.toThrow('not yet');
  expect(await ask()).toBe(2);
  expect(await ask()).toBe(2);
});
