import { describe, expect, it } from 'vitest';
import { LoopWatch } from '../../workers/loop-watch.ts';

const EVERY = 500;

/** @returns how long the loop had stood still at each look; a look says how long after the one before it comes */
function stillAt(looks: readonly { after?: number; turns?: number; waited?: number }[]): number[] {
  const watch = new LoopWatch(EVERY, { nowMs: 0, turns: 0, waitedMs: 0 });
  const at = { nowMs: 0, turns: 0, waitedMs: 0 };
  return looks.map(({ after = EVERY, turns = 0, waited = 0 }) => {
    at.nowMs += after;
    at.turns += turns;
    at.waitedMs += waited;
    return watch.look({ ...at });
  });
}

describe('how long an event loop stands still', () => {
  it('is not at all where it turns, however seldom', () => {
    expect(stillAt([{ turns: 2 }, { turns: 1 }, { turns: 1 }])).toEqual([0, 0, 0]);
  });

  it('grows with every look, and is forgotten with a turn', () => {
    expect(stillAt([{}, {}, { turns: 1 }, {}])).toEqual([500, 1000, 0, 500]);
  });

  it('is not the time in which nobody looked: the machine slept, or the process was stopped', () => {
    expect(stillAt([{}, { after: 3_600_000 }, {}])).toEqual([500, 500, 1000]);
    expect(stillAt([{ after: 1000 }, { after: 1001 }])).toEqual([1000, 1000]);
  });

  it('is not the time in which the thread waited for a processor', () => {
    expect(stillAt([{ waited: 400 }, { waited: 500 }, { waited: 600 }, {}])).toEqual([100, 100, 100, 600]);
  });

  it('goes on where the counter has run over', () => {
    const watch = new LoopWatch(EVERY, { nowMs: 0, turns: 2_147_483_647, waitedMs: 0 });
    expect(watch.look({ nowMs: 500, turns: -2_147_483_648, waitedMs: 0 })).toBe(0);
  });
});
