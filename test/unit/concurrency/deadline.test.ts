import { getEventListeners } from 'node:events';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { abortable, eitherSignal, inTime, msUntil, onAbort, within } from '../../../concurrency/deadline.ts';

const never = new Promise<never>(() => undefined);
const listeners = (signal: AbortSignal) => getEventListeners(signal, 'abort').length;

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

describe('a wait with a signal', () => {
  it('ends with the work, and lets go of the signal', async () => {
    const { signal } = new AbortController();
    const waits = [abortable(Promise.resolve(7), signal), abortable(Promise.reject(new Error('no')), signal)];
    expect(listeners(signal)).toBe(2);
    expect(await waits[0]).toBe(7);
    await expect(waits[1]).rejects.toThrow('no');
    expect(listeners(signal)).toBe(0);
    expect(await abortable(Promise.resolve(7), undefined)).toBe(7);
  });

  it('ends with the signal, whatever becomes of the work', async () => {
    const ending = new AbortController();
    const work = Promise.withResolvers<void>();
    const wait = abortable(work.promise, ending.signal);
    ending.abort(new Error('enough'));
    await expect(wait).rejects.toThrow('enough');
    // Nobody waits for it any more, and it must not become an unhandled rejection.
    work.reject(new Error('too late'));
    await expect(abortable(never, ending.signal)).rejects.toThrow('enough');
    await expect(abortable(Promise.resolve(7), ending.signal)).rejects.toThrow('enough');
    await expect(abortable(never, ending.signal, () => new Error('another reason'))).rejects.toThrow('another reason');
    expect(listeners(ending.signal)).toBe(0);
  });
});

describe('a wait with a deadline', () => {
  it('ends with the work, and leaves no timer', async () => {
    expect(await inTime(Promise.resolve(7), 1000, () => new Error('late'))).toBe(7);
    await expect(inTime(Promise.reject(new Error('no')), 1000, () => new Error('late'))).rejects.toThrow('no');
    expect(await within(Promise.resolve(7), 1000)).toBe(7);
    await expect(within(Promise.reject(new Error('no')), 1000)).rejects.toThrow('no');
    expect(vi.getTimerCount()).toBe(0);
  });

  it('ends when the time is up, not before', async () => {
    const ends = vi.fn();
    inTime(never, 1000, () => new Error('late')).catch(ends);
    within(never, 1000).then(ends);
    await vi.advanceTimersByTimeAsync(999);
    expect(ends).not.toHaveBeenCalled();
    await vi.advanceTimersByTimeAsync(1);
    expect(ends.mock.calls).toEqual([[new Error('late')], [undefined]]);
  });

  it('takes a moment of the monotonic clock as whole milliseconds, one at the least', () => {
    expect(msUntil(performance.now() + 1000)).toBe(1000);
    expect(msUntil(performance.now() + 0.2)).toBe(1);
    expect(msUntil(performance.now() - 1000)).toBe(1);
  });
});

describe('what is done at the end of a signal', () => {
  it('is done once, at once where that has fired, and not any more once it is taken back', () => {
    const act = vi.fn();
    const [ending, other] = [new AbortController(), new AbortController()];
    onAbort(ending.signal, act);
    onAbort(other.signal, act)();
    ending.abort();
    other.abort();
    expect(act).toHaveBeenCalledOnce();
    onAbort(ending.signal, act);
    expect(act).toHaveBeenCalledTimes(2);
  });

  it('either of two signals is enough, and one alone is itself', () => {
    const [one, two] = [new AbortController(), new AbortController()];
    expect(eitherSignal(one.signal, undefined)).toBe(one.signal);
    const either = eitherSignal(one.signal, two.signal);
    two.abort(new Error('the second'));
    expect(either.reason).toEqual(new Error('the second'));
  });
});
