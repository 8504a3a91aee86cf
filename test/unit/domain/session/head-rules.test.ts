import { describe, expect, it } from 'vitest';
import {
  compareSaves,
  type HeadState,
  type HeadVerdict,
  judgeClaim,
  judgeSave,
  saveIdOf,
  savePlaceOf,
} from '../../../../domain/session/head-rules.ts';

const place = (epoch: number, turn: number, n: number) => ({ epoch, turn, n });

describe('the head of a session', () => {
  it.each<[string, HeadState | undefined, number, HeadVerdict]>([
    ['none', undefined, 1, 'write'],
    ['of an earlier placement', { epoch: 1 }, 2, 'write'],
    ['of an earlier placement, with a save', { epoch: 1, save: place(1, 9, 9) }, 2, 'write'],
    ['of this placement', { epoch: 2, save: place(1, 9, 9) }, 2, 'done'],
    ['of a later placement', { epoch: 3 }, 2, 'refuse'],
  ])('claimed where it is %s', (_, head, epoch, verdict) => {
    expect(judgeClaim(head, epoch)).toBe(verdict);
  });

  it.each<[string, HeadState | undefined, HeadVerdict]>([
    ['none', undefined, 'refuse'],
    ['not claimed', { epoch: 1 }, 'refuse'],
    ['of a later placement', { epoch: 3 }, 'refuse'],
    ['of a later placement that has saved less', { epoch: 3, save: place(1, 1, 0) }, 'refuse'],
    ['claimed and empty', { epoch: 2 }, 'write'],
    ['at an earlier turn', { epoch: 2, save: place(2, 4, 7) }, 'write'],
    ['at an earlier save of the turn', { epoch: 2, save: place(2, 5, 0) }, 'write'],
    ['at this turn, saved by an earlier placement', { epoch: 2, save: place(1, 5, 7) }, 'write'],
    ['at this save', { epoch: 2, save: place(2, 5, 1) }, 'done'],
    ['at a later save of the turn', { epoch: 2, save: place(2, 5, 2) }, 'refuse'],
    ['at a later turn', { epoch: 2, save: place(2, 6, 0) }, 'refuse'],
    ['at a later turn of an earlier placement', { epoch: 2, save: place(1, 6, 0) }, 'refuse'],
  ])('that is %s, for save 2-5-1', (_, head, verdict) => {
    expect(judgeSave(head, place(2, 5, 1))).toBe(verdict);
  });
});

describe('ids of saves', () => {
  it('are read back', () => {
    expect(savePlaceOf(saveIdOf(place(3, 17, 0)))).toEqual(place(3, 17, 0));
  });

  it.each(['', '1', '1-2', '1-2-3-4', '01-2-3', '1-2-x', '1-2--3', '1-2-1234567890', ' 1-2-3'])('%j is none', (id) => {
    expect(savePlaceOf(id)).toBeUndefined();
  });

  it('are ordered by turn, placement and number', () => {
    const inOrder = [place(2, 1, 0), place(1, 2, 0), place(1, 2, 1), place(2, 2, 0), place(1, 10, 0)];
    expect(inOrder.toReversed().sort(compareSaves)).toEqual(inOrder);
  });
});
