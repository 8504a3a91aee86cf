import { describe, expect, it } from 'vitest';
import { carriedSizes, type LongLife, longLifeTable, wrongInLongLife } from '../../../bench/long-life.ts';
import { MAX_CARRIED_BYTES } from '../../../domain/session/session-state.ts';

const finished = { as: 'finished', code: 0, signal: null, outputBytes: 0 } as const;
const right: LongLife = {
  sent: ['a', 'b'],
  runs: [
    { id: 'a', turn: 1, outcome: finished },
    { id: 'b', turn: 2, outcome: finished },
  ],
  started: ['a', 'b'],
  events: [40, 12],
  carriedBytes: [900],
};

describe('the life of a session with many runs', () => {
  it('is right where every run was started once, in the order in which it was sent', () => {
    expect(wrongInLongLife(right)).toEqual([]);
    expect(longLifeTable(right, 2).join('\n')).toContain('40, 12');
  });

  it.each<[string, Partial<LongLife>, string]>([
    ['a run that was started twice', { started: ['a', 'b', 'b'] }, 'b was started 2 times'],
    ['a run that was not started', { started: ['a'] }, 'b was started 0 times'],
    ['starts in another order', { started: ['b', 'a'] }, 'in the order'],
    ['turns in another order', { runs: [...right.runs].reverse() }, 'a was sent as number 1'],
    ['a run that has failed', { runs: [{ id: 'a', turn: 1, outcome: { ...finished, code: 1 } }] }, '"code":1'],
    ['a run that nobody knows', { runs: [] }, 'a was sent as number 1'],
    ['too much that is carried on', { carriedBytes: [MAX_CARRIED_BYTES + 1] }, `${MAX_CARRIED_BYTES + 1} bytes`],
    ['an execution that handed nothing on', { carriedBytes: [] }, '2 executions, 0 handed on'],
  ])('tells %s', (_, change, told) => {
    expect(wrongInLongLife({ ...right, ...change }).join('\n')).toContain(told);
  });

  it('counts the bytes that continued executions have handed on', () => {
    const payloads = [{ data: Buffer.from('{"a":1}') }, { data: Buffer.from('é') }];
    const continued = { workflowExecutionContinuedAsNewEventAttributes: { input: { payloads } } };
    expect(carriedSizes([{ events: [{}, continued] }, { events: [{}] }, {}])).toEqual([9]);
  });
});
