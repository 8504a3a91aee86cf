import { expect, it } from 'vitest';
import { type HoldOrder, holdsAt, holdsEndAt, judgeHold, MAX_HOLDS } from '../../../../domain/session/holds.ts';

const order = (id: string): HoldOrder => ({ id, kind: 'readFiles' });

it('a hold is over at its end, one that waits never', () => {
  const holds = new Map([
    ['waits', undefined],
    ['lasts', 11],
    ['over', 10],
  ]);
  expect([...holdsAt(holds, 10).keys()]).toEqual(['waits', 'lasts']);
});

it('they are all over at the last end; while one waits, nobody knows when', () => {
  expect(holdsEndAt(new Map())).toBeUndefined();
  expect(
    holdsEndAt(
      new Map([
        ['a', 5],
        ['b', 9],
        ['c', 7],
      ]),
    ),
  ).toBe(9);
  expect(
    holdsEndAt(
      new Map([
        ['a', 5],
        ['b', undefined],
      ]),
    ),
  ).toBeUndefined();
});

it('no more than so many at a time, those that are over do not count, a known one is always kept', () => {
  const full = new Map(Array.from({ length: MAX_HOLDS }, (_, n) => [`h${n}`, 10]));
  expect(() => judgeHold(full, order('new'), 9)).toThrow(expect.objectContaining({ code: 'QUEUE_FULL' }));
  expect(() => judgeHold(full, order('h0'), 9)).not.toThrow();
  expect(() => judgeHold(full, order('new'), 10)).not.toThrow();
});
