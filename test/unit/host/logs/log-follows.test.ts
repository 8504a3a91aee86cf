import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { NumberedLogEntry } from '../../../../domain/logs/log-entry.ts';
import {
  createLogFollows,
  type FollowAnswer,
  type FollowRequest,
  type LogFollows,
} from '../../../../host/logs/log-follows.ts';

const workload = (id: string) => ({ kind: 'workload', id }) as const;

let lines: NumberedLogEntry[];
let epochs: number[];
let follows: LogFollows;
/** Called when a request reads the lines: a request that has read them without an answer is now held. */
let looked: (() => void) | undefined;

const line = (n: number): NumberedLogEntry => ({
  timestamp: '2026-01-01T00:00:00.000Z',
  stage: 'running',
  message: `line ${n}`,
  level: 'info',
  epoch: 1,
  writer: 'h1',
  n,
});
const open = (more: { max?: number; maxHoldMs?: number } = {}) =>
  createLogFollows({
    max: 2,
    maxHoldMs: 60_000,
    epochs: async () => epochs,
    read: async ({ epoch }, after, limit) => {
      looked?.();
      return lines.filter((entry) => entry.epoch === epoch && entry.n > after).slice(0, limit);
    },
    ...more,
  });
const ask = (more: Partial<FollowRequest> = {}): Promise<FollowAnswer> =>
  follows.follow({
    owner: workload('w'),
    after: -1,
    limit: 10,
    waitMs: 60_000,
    signal: new AbortController().signal,
    ...more,
  });
/** @returns a request that is certainly held, with the mark that it was sent with */
async function heldRequest(more: Partial<FollowRequest> = {}) {
  const { mark = '' } = await ask({ waitMs: 0 });
  const { promise, resolve } = Promise.withResolvers<void>();
  looked = resolve;
  const answer = ask({ mark, ...more });
  await promise;
  looked = undefined;
  return { mark, answer };
}

beforeEach(() => {
  lines = [];
  epochs = [1];
  follows = open();
});
afterEach(() => follows.end());

describe('a reader that waits at a host', () => {
  it('is answered at once where there are lines, or no work is under way', async () => {
    lines = [line(0), line(1)];
    expect(await ask()).toEqual({ entries: lines, epoch: 1 });
    expect(await ask({ after: 1 })).toEqual({ entries: [], epoch: 1 });
    expect(await ask({ after: 0, limit: 1, epoch: 1 })).toEqual({ entries: [line(1)], epoch: 1 });
    epochs = [];
    expect(await ask()).toEqual({ entries: [] });
  });

  it('is answered at once with a mark that it does not know, and held with the one that it knows', async () => {
    const leave = follows.attend(workload('w'));
    const first = await ask();
    expect(first).toEqual({ entries: [], epoch: 1, mark: expect.any(String) });
    const { mark, answer } = await heldRequest();
    expect([mark, follows.held]).toEqual([first.mark, 1]);
    leave();
    expect(await answer).toEqual({ entries: [], epoch: 1 });
    expect(follows.held).toBe(0);
  });

  it('is woken by a line', async () => {
    follows.attend(workload('w'));
    const { mark, answer } = await heldRequest();
    follows.wake(workload('another'));
    lines.push(line(0));
    follows.wake(workload('w'));
    expect(await answer).toEqual({ entries: [line(0)], epoch: 1, mark });
  });

  it('gets the lines of a log that is begun while it waits', async () => {
    epochs = [];
    follows.attend(workload('w'));
    const { mark } = await ask({ waitMs: 0 });
    const answer = ask({ mark: mark ?? '' });
    epochs = [3];
    lines = [{ ...line(0), epoch: 3 }];
    follows.wake(workload('w'));
    expect(await answer).toMatchObject({ epoch: 3, entries: [{ epoch: 3 }] });
  });

  it('is woken when a further piece of work begins, and when one of several ends', async () => {
    const leave = follows.attend(workload('w'));
    const first = await heldRequest();
    const leaveSecond = follows.attend(workload('w'));
    const { mark } = await first.answer;
    expect(mark).not.toBe(first.mark);
    const second = await heldRequest();
    leave();
    leave();
    const third = (await second.answer).mark;
    expect(third).not.toBe(mark);
    expect(third).toBeDefined();
    leaveSecond();
    expect((await ask()).mark).toBeUndefined();
  });

  it('is answered when its time is over, its own or that of the host', async () => {
    follows.attend(workload('w'));
    const { mark, answer } = await heldRequest({ waitMs: 1 });
    expect(await answer).toEqual({ entries: [], epoch: 1, mark });
    follows = open({ maxHoldMs: 1 });
    follows.attend(workload('w'));
    const late = await heldRequest();
    expect(await late.answer).toEqual({ entries: [], epoch: 1, mark: late.mark });
  });

  it('gives its place back when nobody waits for it any more', async () => {
    follows.attend(workload('w'));
    const gone = new AbortController();
    const { answer } = await heldRequest({ signal: gone.signal });
    await heldRequest();
    await expect(ask()).rejects.toMatchObject({ code: 'QUEUE_FULL' });
    // A request that does not wait takes no place.
    expect((await ask({ waitMs: 0 })).mark).toBeDefined();
    gone.abort();
    await answer;
    expect(follows.held).toBe(1);
    await heldRequest();
  });

  it('is answered when the host lets go, and nobody is held afterwards', async () => {
    follows.attend(workload('w'));
    const { answer } = await heldRequest();
    follows.end();
    expect(await answer).toEqual({ entries: [], epoch: 1 });
    expect(await ask({ mark: 'any' })).toEqual({ entries: [], epoch: 1 });
  });

  it('has no mark of an earlier process', async () => {
    const marks = new Set<string | undefined>();
    for (let life = 0; life < 3; life++) {
      follows = open();
      follows.attend(workload('w'));
      marks.add((await ask({ waitMs: 0 })).mark);
    }
    expect(marks.size).toBe(3);
  });
});
