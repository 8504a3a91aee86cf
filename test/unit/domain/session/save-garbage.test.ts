import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type CondemnedSave,
  dueGarbage,
  goneSince,
  keepSave,
  lostPack,
  restamped,
  type SaveGarbage,
  type SavePacks,
  withoutDeleted,
} from '../../../../domain/session/save-garbage.ts';

const LIMITS = { kept: 3, condemned: 5 };
const AT = '1970-01-01T00:00:00.000Z';
const kept = (n: number, gone?: string[]) => ({
  ...{ turn: n, saveId: `1-${n}-0`, treeSha256: '' },
  ...(gone === undefined ? {} : { gone }),
});
const condemned = (n: number, packs: string[], at = AT): CondemnedSave => ({ at, saveId: `1-${n}-0`, packs });

/** What each save drops of the one before it: any of its packs; and how many packs it adds. */
const saves = fc.array(fc.record({ dropped: fc.array(fc.nat(20)), added: fc.nat(3) }), { maxLength: 30 });

describe('keepSave', () => {
  it('condemns exactly what no kept save needs any more', () => {
    fc.assert(
      fc.property(saves, (all) => {
        let garbage: SaveGarbage = { kept: [], condemned: [] };
        let before: SavePacks | undefined;
        const needs = new Map<string, readonly string[]>();
        for (const [turn, { dropped, added }] of all.entries()) {
          const saveId = `1-${turn}-0`;
          const old = before?.packs.filter((_, n) => !dropped.includes(n)) ?? [];
          const packs = [...old, ...Array.from({ length: added }, (_, n) => `${saveId}-${n}`)];
          const gone = goneSince(before, packs, 1000);
          expect(lostPack({ garbage, ...(before === undefined ? {} : { before }) }, packs)).toBeUndefined();
          garbage = keepSave(garbage, kept(turn, gone), 0, { ...LIMITS, condemned: 100 });
          needs.set(saveId, packs);
          before = { saveId, packs };
          const needed = new Set(garbage.kept.flatMap((save) => needs.get(save.saveId) ?? []));
          const over = garbage.condemned.flatMap((each) => each.packs);
          const everMade = new Set([...needs.values()].flat());
          expect(new Set(over)).toEqual(new Set([...everMade].filter((name) => !needed.has(name))));
          expect(over.length).toBe(new Set(over).size);
          expect(garbage.condemned.map((each) => each.saveId)).toEqual([...needs.keys()].slice(0, -LIMITS.kept));
        }
      }),
    );
  });

  it('leaves to the repair what a head cannot hold', () => {
    const full = Array.from({ length: 5 }, (_, n) => condemned(n, []));
    const next = keepSave({ kept: [5, 6, 7].map((n) => kept(n, [`p${n}`])), condemned: full }, kept(8), 0, LIMITS);
    expect(next.condemned).toEqual(full);
    expect(next.kept.map(({ turn }) => turn)).toEqual([6, 7, 8]);
    expect(next.kept[0]).toEqual(kept(6));
    expect(goneSince({ saveId: '', packs: ['a', 'b', 'c'] }, [], 2)).toEqual(['a', 'b']);
    expect(goneSince({ saveId: '', packs: ['a'] }, [], -1)).toEqual([]);
    expect(goneSince(undefined, [], 2)).toEqual([]);
  });
});

describe('dueGarbage', () => {
  const all = [condemned(1, ['a', 'b']), condemned(2, []), condemned(3, ['c'], '1970-01-01T00:10:00.000Z')];
  const due = (nowMs: number, most = 100) => dueGarbage(all, { nowMs, condemnedMs: 600_000, most });

  it('waits its time', () => {
    expect(due(599_999)).toEqual({ packs: [], saveIds: [] });
    expect(due(600_000)).toEqual({ packs: ['a', 'b'], saveIds: ['1-1-0', '1-2-0'] });
    expect(due(1_200_000)).toEqual({ packs: ['a', 'b', 'c'], saveIds: ['1-1-0', '1-2-0', '1-3-0'] });
  });

  it('names a save only with all of its packs, and takes so many at a time', () => {
    let left: CondemnedSave[] = all;
    const rounds: unknown[] = [];
    while (left.length > 0) {
      const now = dueGarbage(left, { nowMs: 1_200_000, condemnedMs: 0, most: 2 });
      rounds.push(now);
      left = withoutDeleted(left, now);
    }
    expect(rounds).toEqual([
      { packs: ['a', 'b'], saveIds: [] },
      { packs: [], saveIds: ['1-1-0', '1-2-0'] },
      { packs: ['c'], saveIds: ['1-3-0'] },
    ]);
  });
});

describe('restamped', () => {
  it('trusts a clock that is a minute ahead, and none that is more', () => {
    const slow = condemned(1, [], '1970-01-01T00:01:00.000Z');
    const wrong = condemned(2, [], '1970-01-01T00:01:00.001Z');
    expect(restamped([slow, wrong], 0)).toEqual([slow, { ...wrong, at: AT }]);
  });
});

describe('lostPack', () => {
  const garbage = { kept: [kept(1), kept(2, ['1-1-0-0'])], condemned: [condemned(0, ['1-0-0-0'])] };
  const before = { saveId: '1-2-0', packs: ['1-1-0-1', '1-2-0-0'] };

  it.each([
    ['of the save before', '1-1-0-1', undefined],
    ['of a later save of the placement', '1-3-0-0', undefined],
    ['of a later placement', '2-0-0-0', undefined],
    ['that is gone since a kept save', '1-1-0-0', '1-1-0-0'],
    ['that is condemned', '1-0-0-0', '1-0-0-0'],
    ['of an older save, that the one before does not need', '1-1-0-2', '1-1-0-2'],
    ['of the save before, that it does not name', '1-2-0-1', '1-2-0-1'],
  ])('a pack %s', (_, name, lost) => {
    expect(lostPack({ garbage, before }, ['1-2-0-0', name])).toBe(lost);
  });

  it('judges by garbage alone where the save before is not known', () => {
    expect(lostPack({ garbage }, ['1-1-0-2'])).toBeUndefined();
    expect(lostPack({ garbage }, ['1-0-0-0'])).toBe('1-0-0-0');
  });
});
