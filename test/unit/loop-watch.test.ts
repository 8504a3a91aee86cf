import { describe, expect, it } from 'vitest';
import { LoopWatch } from '../../workers/loop-watch.ts';

const EVERY = 500;

/** @returns how long the loop had been stuck at each look; a look gives what has happened since the one before it */
function stillAt(looks: readonly { after?: number; turns?: number; cpu?: number; state?: string }[]): number[] {
  const at = { nowMs: 0, turns: 0, cpuMs: 0, state: 'S' };
  const watch = new LoopWatch(EVERY, { ...at });
  return looks.map(({ after = EVERY, turns = 0, cpu = 0, state = 'S' }) => {
    at.nowMs += after;
    at.turns += turns;
    at.cpuMs += cpu;
    return watch.look({ ...at, state });
  });
}

describe('how long an event loop stands still', () => {
  it('is not at all where it turns, however seldom', () => {
    expect(stillAt([{ turns: 2 }, { turns: 1 }, { turns: 1 }])).toEqual([0, 0, 0]);
  });

  it('grows with what it waits for, a disk or anything, and is forgotten with a turn', () => {
    expect(stillAt([{}, { state: 'D' }, { turns: 1 }, {}])).toEqual([500, 1000, 0, 500]);
  });

  it('grows with what it computes, and not with waiting for a processor', () => {
    const computes = { state: 'R', cpu: 500 };
    expect(stillAt([computes, { state: 'R', cpu: 10 }, { state: 'R' }, computes])).toEqual([500, 510, 510, 1010]);
  });

  it('is not the time in which nobody looked: the machine slept, or the process was stopped', () => {
    expect(stillAt([{}, { after: 3_600_000 }, {}])).toEqual([500, 500, 1000]);
    expect(stillAt([{ after: 1000 }, { after: 1001 }])).toEqual([1000, 1000]);
    expect(stillAt([{ after: 3_600_000, state: 'R', cpu: 3 }, { state: 'T' }])).toEqual([3, 3]);
  });

  it('goes on where the counter has run over', () => {
    const watch = new LoopWatch(EVERY, { nowMs: 0, turns: 2_147_483_647, cpuMs: 0, state: 'S' });
    expect(watch.look({ nowMs: 500, turns: -2_147_483_648, cpuMs: 0, state: 'S' })).toBe(0);
  });
});
