import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { NumberedLogEntry } from '../../../../domain/logs/log-entry.ts';
import { createRecentLines } from '../../../../domain/logs/recent-lines.ts';

const line = (n: number, message = `line ${n}`): NumberedLogEntry => ({
  timestamp: '2026-01-01T00:00:00.000Z',
  stage: 'running',
  message,
  level: 'info',
  epoch: 1,
  writer: 'h1',
  n,
});
const numbers = (lines: readonly NumberedLogEntry[] | undefined) => lines?.map(({ n }) => n);

describe('recent lines', () => {
  it('give what comes after a number, or say that they have it no longer', () => {
    const recent = createRecentLines({ maxLines: 3, maxUnits: 1000 }, 5);
    expect([recent.after(3), recent.after(4), recent.next]).toEqual([undefined, [], 5]);
    recent.push([line(5), line(6)]);
    recent.push([line(6), line(7), line(8)]);
    expect(numbers(recent.after(6))).toEqual([7, 8]);
    expect(numbers(recent.after(8))).toEqual([]);
    expect(numbers(recent.after(100))).toEqual([]);
    expect(numbers(recent.after(4))).toBeUndefined();
    expect(recent.next).toBe(9);
    recent.restart(2);
    expect([recent.after(1), recent.after(0), recent.next]).toEqual([[], undefined, 2]);
  });

  it('never hand out lines with a gap between them, and keep to their bounds, whatever is pushed', () => {
    const pushes = fc.array(
      fc.record({ from: fc.nat(60), count: fc.integer({ min: 1, max: 12 }), units: fc.nat(30) }),
      { maxLength: 20 },
    );
    fc.assert(
      fc.property(pushes, fc.nat(70), (pushed, asked) => {
        const recent = createRecentLines({ maxLines: 8, maxUnits: 60 });
        let next = 0;
        for (const { from, count, units } of pushed) {
          recent.push(Array.from({ length: count }, (_, index) => line(from + index, 'x'.repeat(units))));
          next = Math.max(next, from + count);
          expect(recent.next).toBe(next);
          for (let after = -1; after < next; after++) {
            const lines = recent.after(after);
            if (lines === undefined) continue;
            expect(numbers(lines)).toEqual(Array.from({ length: next - after - 1 }, (_, index) => after + 1 + index));
            expect(lines.length).toBeLessThanOrEqual(8);
            expect(lines.reduce((sum, { message }) => sum + message.length, 0)).toBeLessThanOrEqual(60);
          }
        }
        expect(recent.after(next + asked)).toEqual([]);
      }),
    );
  });
});
