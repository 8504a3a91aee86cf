/** A stack that is ended and started again: its sessions sleep meanwhile, and go on with their files. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { StackHome } from '../support/workers/dev-stack.ts';
import { shell } from '../support/workers/session-steps.ts';

let home: StackHome;
beforeAll(async () => {
  home = await StackHome.make();
});
afterAll(() => home.remove());

it('a session goes on where it was after Ctrl-C and the next start; one that never ran has nothing to save', async () => {
  const first = await home.startDev();
  const kept = first.api.session('kept');
  expect(await kept.command(shell('echo one > note; mkdir -m 700 own')).result()).toMatchObject({ exit: { code: 0 } });
  await first.api.createSession({ body: { thread: 'unborn' } });
  expect(await first.end('SIGTERM')).toMatchObject({ code: 0 });
  const second = await home.startDev();
  expect(await second.api.session('kept').get()).toMatchObject({
    tier: 'cold',
    turns: 1,
    saved: { turn: 1, isWhole: true },
  });
  const script = '[ "$(cat note)" = one ] && [ "$(stat -c %a own)" = 700 ]';
  const next = await second.api.session('kept').command(shell(script)).result();
  expect(next).toMatchObject({ turn: 2, exit: { code: 0 } });
  expect(next).not.toHaveProperty('lost');
  expect(await second.end('SIGTERM')).toMatchObject({ code: 0 });
  expect(await home.left()).toEqual([]);
});
