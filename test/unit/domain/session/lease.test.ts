import { expect, it } from 'vitest';
import { leaseStands, withWord } from '../../../../domain/session/lease.ts';

const lease = { provenAtMs: 1000, isAnothers: false };

it('stands until its time is over, from the moment before the question on', () => {
  expect(leaseStands(lease, 1000, 500)).toBe(true);
  expect(leaseStands(lease, 1500, 500)).toBe(true);
  expect(leaseStands(lease, 1501, 500)).toBe(false);
  const renewed = withWord(lease, 'ours', 1400);
  expect([leaseStands(renewed, 1900, 500), leaseStands(renewed, 1901, 500)]).toEqual([true, false]);
});

it('is over at once where another has the session, until a newer word says otherwise', () => {
  const over = withWord(lease, 'anothers', 1100);
  expect(leaseStands(over, 1100, 500)).toBe(false);
  expect(leaseStands(withWord(over, 'unknown', 1200), 1200, 500)).toBe(false);
  expect(leaseStands(withWord(over, 'ours', 1200), 1200, 500)).toBe(true);
});

it('is not renewed by a question without an answer, nor by an answer to an older question', () => {
  expect(withWord(lease, 'unknown', 1400)).toEqual(lease);
  expect(withWord(withWord(lease, 'ours', 1400), 'ours', 1200).provenAtMs).toBe(1400);
});

it('does not stand by a clock that was set back, as after a restart of the machine', () => {
  expect(leaseStands(lease, 10, 500)).toBe(false);
});
