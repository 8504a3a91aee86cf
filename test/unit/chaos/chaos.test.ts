import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { allowedOutcomes } from '../../../chaos/allowed-outcomes.ts';
import { scheduleOf } from '../../../chaos/schedule.ts';
import { shrink } from '../../../chaos/shrink.ts';

const SPAN = { spanMs: 4_000 };

describe('a random schedule', () => {
  it('is the same for the same seed, and another for another', () => {
    fc.assert(
      fc.property(fc.nat(), (seed) => {
        expect(scheduleOf(seed, SPAN)).toEqual(scheduleOf(seed, SPAN));
      }),
    );
    expect(scheduleOf(1, SPAN)).not.toEqual(scheduleOf(2, SPAN));
  });

  it('is in the order of time, within its span, with two workloads or more, each created before it is harmed', () => {
    fc.assert(
      fc.property(fc.nat(), (seed) => {
        const events = scheduleOf(seed, SPAN);
        const known = new Set<string>();
        let last = 0;
        for (const event of events) {
          expect(event.atMs).toBeGreaterThanOrEqual(last);
          expect(event.atMs).toBeLessThanOrEqual(SPAN.spanMs);
          last = event.atMs;
          if (event.kind === 'create') known.add(event.id);
          else if ('id' in event) expect(known).toContain(event.id);
        }
        expect(known.size).toBeGreaterThanOrEqual(2);
      }),
    );
  });

  it('has events of every kind among a hundred seeds', () => {
    const kinds = new Set(
      Array.from({ length: 100 }, (_, seed) => scheduleOf(seed, SPAN))
        .flat()
        .map(({ kind }) => kind),
    );
    expect([...kinds].sort()).toEqual(['cancel', 'create', 'fail', 'kill-vm', 'kill-worker', 'stall', 'stop']);
  });
});

describe('allowed outcomes', () => {
  it('are one where nothing is done to the workload, whatever is done to its neighbour', () => {
    const events = [
      { kind: 'kill-vm', id: 'other', atMs: 1 },
      { kind: 'kill-worker', role: 'host', atMs: 2 },
    ] as const;
    expect([...allowedOutcomes('mine', 'plain', events)]).toEqual(['running']);
    expect([...allowedOutcomes('other', 'plain', events)]).toContain('VMM_EXITED');
  });
});

describe('shrink', () => {
  it('finds the items that a failure needs, and no others', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uniqueArray(fc.nat(), { minLength: 1, maxLength: 30 }), fc.nat(), async (items, pick) => {
        const needed = items.filter((_, index) => (index + pick) % 7 === 0);
        fc.pre(needed.length > 0);
        const fails = async (part: readonly number[]) => needed.every((item) => part.includes(item));
        expect(await shrink(items, fails, 10_000)).toEqual(needed);
      }),
    );
  });

  it('stays within its budget and then answers with what still fails', async () => {
    let runs = 0;
    const items = Array.from({ length: 64 }, (_, index) => index);
    const fails = async (part: readonly number[]) => {
      runs += 1;
      return part.includes(63);
    };
    expect(await shrink(items, fails, 3)).toContain(63);
    expect(runs).toBe(3);
  });
});
