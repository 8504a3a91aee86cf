import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { imagesToRemove, type KeptImage } from '../../../domain/upkeep/image-collection.ts';

const image = (digest: string, idleMs: number, inUse = false): KeptImage => ({ digest, idleMs, inUse });

describe('images that a host need not keep', () => {
  it('are those beyond the number to keep, idle for long enough and used by nothing; the longest idle first', () => {
    const images = [image('old', 50), image('new', 1), image('used', 90, true), image('older', 70), image('recent', 9)];
    expect(imagesToRemove(images, { keep: 1, idleMs: 10 })).toEqual(['older', 'old']);
    expect(imagesToRemove(images, { keep: 4, idleMs: 10 })).toEqual([]);
    expect(imagesToRemove(images, { keep: 0, idleMs: 60 })).toEqual(['older']);
  });

  it('never one that is in use, or was asked for within the grace, and always so many stay', () => {
    const images = fc.uniqueArray(fc.record({ digest: fc.uuid(), idleMs: fc.nat(1000), inUse: fc.boolean() }), {
      selector: ({ digest }) => digest,
      maxLength: 20,
    });
    fc.assert(
      fc.property(images, fc.nat(20), fc.nat(1000), (all, keep, idleMs) => {
        const removed = new Set(imagesToRemove(all, { keep, idleMs }));
        expect(all.length - removed.size).toBeGreaterThanOrEqual(Math.min(keep, all.length));
        for (const one of all) if (one.inUse || one.idleMs < idleMs) expect(removed.has(one.digest)).toBe(false);
      }),
    );
  });
});
