import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isLogExpired } from '../../../domain/logs/log-retention.ts';
import { isFinal, STAGES } from '../../../domain/workload/stages.ts';

const NOW = Date.parse('2026-06-01T00:00:00Z');
const at = (ageMs: number) => new Date(NOW - ageMs).toISOString();

describe('retention of logs', () => {
  it.each([
    ['stopped', 1_001, true],
    ['failed', 1_001, true],
    ['stopped', 1_000, false],
    ['stopped', -5, false],
    ['running', 1_000_000, false],
    ['pending', 1_000_000, false],
  ] as const)('%s for %i ms: %j', (stage, ageMs, expired) => {
    expect(isLogExpired({ stage, updatedAt: at(ageMs) }, { keepMs: 1_000 }, NOW)).toBe(expired);
  });

  it('nothing goes of what is not known, or whose time is no time', () => {
    expect(isLogExpired(undefined, { keepMs: 0 }, NOW)).toBe(false);
    expect(isLogExpired({ stage: 'stopped', updatedAt: 'once' }, { keepMs: 0 }, NOW)).toBe(false);
  });

  it('once expired, expired for good; never while it is not over', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...STAGES),
        fc.nat(10_000),
        fc.nat(10_000),
        fc.nat(10_000),
        (stage, ageMs, keepMs, later) => {
          const state = { stage, updatedAt: at(ageMs) };
          const expired = isLogExpired(state, { keepMs }, NOW);
          if (expired) expect(isFinal(stage) && isLogExpired(state, { keepMs }, NOW + later)).toBe(true);
        },
      ),
    );
  });
});
