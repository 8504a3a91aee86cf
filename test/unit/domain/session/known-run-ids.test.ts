import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type CarriedRunIds, KnownRunIds, MAX_EXACT_IDS } from '../../../../domain/session/known-run-ids.ts';

const MAX_CARRIED_BYTES = 220 * 1024;
const manyIds = (count: number, prefix = 'msg') => Array.from({ length: count }, (_, n) => `${prefix}-${n}`);

function knownOf(ids: readonly string[]): KnownRunIds {
  const known = new KnownRunIds();
  for (const id of ids) known.add(id);
  return known;
}

/** What the next execution of a workflow gets. */
function carriedOn(known: KnownRunIds): KnownRunIds {
  const carried: CarriedRunIds = JSON.parse(JSON.stringify(known.carried()));
  return new KnownRunIds(carried);
}

describe('run ids of a thread', () => {
  it('every id that was added is known, in the next execution too', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ maxLength: 128 }), { maxLength: 100 }), (ids) => {
        const known = knownOf(ids);
        expect(ids.every((id) => known.mayHave(id) && carriedOn(known).mayHave(id))).toBe(true);
      }),
    );
  });

  it('up to the limit, an id that was not added is not known', () => {
    const known = carriedOn(knownOf(manyIds(MAX_EXACT_IDS)));
    expect(known.carried().form).toBe('hashes');
    expect(manyIds(MAX_EXACT_IDS, 'other').filter((id) => known.mayHave(id))).toEqual([]);
  });

  it('beyond the limit no id is forgotten, few others are called known, and the size stays', () => {
    const ids = manyIds(100_000);
    const known = carriedOn(knownOf(ids));
    expect(known.carried().form).toBe('filter');
    expect(ids.filter((id) => !known.mayHave(id))).toEqual([]);
    const wrong = manyIds(10_000, 'other').filter((id) => known.mayHave(id));
    expect(wrong.length).toBeLessThan(100);
    expect(JSON.stringify(known.carried()).length).toBeLessThanOrEqual(MAX_CARRIED_BYTES);
  });

  it('the size of the hashes is bounded, too', () => {
    const { digits } = knownOf(manyIds(MAX_EXACT_IDS)).carried();
    expect(digits.length).toBeLessThanOrEqual(MAX_CARRIED_BYTES);
  });
});
