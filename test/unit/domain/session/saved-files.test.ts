import { expect, it } from 'vitest';
import { newestOfTurns } from '../../../../domain/session/head-rules.ts';
import { filesChange, NO_SAVES, runStarts, type SaveBook } from '../../../../domain/session/save-book.ts';
import { hasVmAtRest, isInStore } from '../../../../domain/session/saved-files.ts';
import { TIERS, type Tier } from '../../../../domain/session/tiers.ts';

const stored: SaveBook = { ...NO_SAVES, asked: 1, spooled: { turn: 1, n: 1 }, stored: { turn: 1, n: 1 } };
const books: Readonly<Record<string, SaveBook | undefined>> = {
  stored,
  'a run since': runStarts(stored),
  'files since': filesChange(stored),
  'not uploaded': { ...stored, spooled: { turn: 2, n: 2 } },
  'being saved': { ...stored, saving: { turn: 2, n: 2 } },
  'never saved': NO_SAVES,
  'not known': undefined,
};
/** The VM of these may change the workspace at any moment, or there is none that ever had it. */
const IN_A_VM: readonly Tier[] = ['new', 'restoring', 'hot'];

it.each(TIERS.flatMap((tier) => Object.keys(books).map((saves) => [tier, saves] as const)))(
  'a session that is %s, with saves: %s',
  (tier, saves) => {
    const book = books[saves];
    const state = { tier, ...(book === undefined ? {} : { saves: book }) };
    const rests = tier === 'warm' || tier === 'evicting';
    const isGone = tier === 'cold' || tier === 'closed' || tier === 'expired';
    const expected = isGone || (rests && saves === 'stored');
    expect(isInStore({ record: {}, state })).toBe(expected);
    expect(isInStore({ record: { end: 'closed' }, state })).toBe(true);
    expect(hasVmAtRest({ record: {}, state })).toBe(rests);
    expect(hasVmAtRest({ record: { end: 'closed' }, state })).toBe(false);
    if (IN_A_VM.includes(tier)) expect(expected).toBe(false);
  },
);

it('a session without a workflow is where its last save is', () => {
  expect(isInStore({ record: {} })).toBe(true);
});

it('the newest save of each turn counts, the newest turn first', () => {
  const kept = [1, 2, 2, 3, 2].map((turn, n) => ({ turn, n }));
  expect(newestOfTurns(kept)).toEqual([
    { turn: 3, n: 3 },
    { turn: 2, n: 4 },
    { turn: 1, n: 0 },
  ]);
});
