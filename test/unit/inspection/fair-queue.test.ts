import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FairQueue } from '../../../inspection/fair-queue.ts';

const queueOf = (max: number, maxPerOwner: number, items: readonly string[]) => {
  const queue = new FairQueue<string>({ max, maxPerOwner });
  return { queue, added: items.map((item) => queue.add(item.charAt(0), item)) };
};
const takeAll = (queue: FairQueue<string>): string[] => {
  const taken: string[] = [];
  for (let item = queue.take(); item !== undefined; item = queue.take()) taken.push(item);
  return taken;
};

describe('waiting work', () => {
  it('is taken from its owners in turn, of each in order', () => {
    const { queue } = queueOf(100, 100, ['a1', 'a2', 'a3', 'b1', 'c1', 'b2']);
    expect(takeAll(queue)).toEqual(['a1', 'b1', 'c1', 'a2', 'b2', 'a3']);
    expect(queue.take()).toBeUndefined();
  });

  it('is bounded in all and for each owner, and has room again once something is taken', () => {
    const { queue, added } = queueOf(3, 2, ['a1', 'a2', 'a3', 'b1', 'c1']);
    expect(added).toEqual([true, true, false, true, false]);
    queue.take();
    expect(queue.add('c', 'c2')).toBe(true);
  });

  it('forgets what is removed, and all of it when it is drained', () => {
    const { queue } = queueOf(9, 9, ['a1', 'b1', 'a2']);
    expect([queue.remove('a', 'a1'), queue.remove('a', 'a1'), queue.remove('b', 'a2')]).toEqual([true, false, false]);
    expect(queue.drain()).toEqual(['a2', 'b1'].sort((x, y) => (x < y ? -1 : 1)));
    expect(queue.take()).toBeUndefined();
  });

  it('loses nothing and doubles nothing, whatever is done to it', () => {
    const act = fc.oneof(
      fc.record({ kind: fc.constant('add' as const), owner: fc.constantFrom('a', 'b', 'c') }),
      fc.record({ kind: fc.constantFrom('take' as const, 'remove' as const), owner: fc.constantFrom('a', 'b', 'c') }),
    );
    fc.assert(
      fc.property(fc.array(act, { maxLength: 60 }), (acts) => {
        const queue = new FairQueue<number>({ max: 8, maxPerOwner: 4 });
        const waiting = new Map<number, string>();
        acts.forEach(({ kind, owner }, index) => {
          if (kind === 'add' && queue.add(owner, index)) waiting.set(index, owner);
          if (kind === 'take') {
            const item = queue.take();
            expect(item === undefined ? waiting.size === 0 : waiting.delete(item)).toBe(true);
          }
          const first = [...waiting.keys()][0];
          if (kind === 'remove' && first !== undefined) {
            expect(queue.remove(waiting.get(first) ?? '', first)).toBe(true);
            waiting.delete(first);
          }
          expect(waiting.size).toBeLessThanOrEqual(8);
        });
        expect(queue.drain().sort()).toEqual([...waiting.keys()].sort());
      }),
    );
  });
});
