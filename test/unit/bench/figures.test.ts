import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { figureOf, type Measurement, median, percentile } from '../../../bench/figure.ts';
import { GROUPS, parseBenchCommand } from '../../../bench/groups.ts';
import { asJson, asTable } from '../../../bench/report.ts';

const measurement: Measurement = {
  name: 'dispatch',
  unit: 'ms',
  kiln: [30, 10, 20],
  rival: { words: 'a 5 s poller', samples: [2_400, 2_600] },
};
const samples = fc.array(fc.double({ min: 0, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 50 });

describe('median and percentile', () => {
  it.each([
    [[5], 5],
    [[3, 1, 2], 2],
    [[4, 1, 3, 2], 2.5],
  ])('the median of %j is %d', (values, expected) => {
    expect(median(values)).toBe(expected);
  });

  it('interpolates between neighbours', () => {
    expect(percentile([0, 100], 0.95)).toBeCloseTo(95);
  });

  it('refuses no samples and a share outside 0 to 1', () => {
    expect(() => median([])).toThrow(RangeError);
    expect(() => percentile([1], 1.1)).toThrow(RangeError);
    expect(() => percentile([1], Number.NaN)).toThrow(RangeError);
  });

  it('lies within the samples, grows with the share and does not depend on their order', () => {
    fc.assert(
      fc.property(samples, fc.double({ min: 0, max: 1, noNaN: true }), (values, p) => {
        const value = percentile(values, p);
        expect(value).toBeGreaterThanOrEqual(Math.min(...values));
        expect(value).toBeLessThanOrEqual(Math.max(...values));
        expect(value).toBeLessThanOrEqual(percentile(values, 1));
        expect(percentile([...values].reverse(), p)).toBe(value);
      }),
    );
  });
});

describe('a figure', () => {
  it('holds medians, the rival in words, and how much faster Kiln is', () => {
    expect(figureOf(measurement)).toEqual({
      unit: 'ms',
      n: 3,
      kiln: 20,
      kilnP95: 29,
      kilnP99: 29.8,
      kilnMax: 30,
      rival: 'a 5 s poller: 2500 ms (n = 2)',
      rivalMedian: 2500,
      rivalP95: 2590,
      rivalP99: 2598,
      ratio: 125,
    });
  });

  it('is printed as one line of JSON and as a table with a row a figure', () => {
    const figures = { dispatch: figureOf(measurement) };
    expect(JSON.parse(asJson(figures))).toEqual(figures);
    expect(asJson(figures)).not.toContain('\n');
    const lines = asTable(figures).split('\n');
    expect(lines[1]?.split(/\s{2,}/)).toEqual([
      ...['dispatch', '3', '20 ms', '29 ms', '29.8 ms', '30 ms'],
      ...['2500 ms', '2590 ms', '2598 ms', '125×'],
    ]);
    expect(lines[1]?.length).toBe(lines[0]?.length);
    expect(lines.at(-1)).toContain('against a 5 s poller');
  });
});

describe('the command line', () => {
  it('means all groups without one, a table without --json', () => {
    expect(parseBenchCommand([])).toEqual({ groups: Object.keys(GROUPS), json: false, help: false });
  });

  it('takes groups, --json and --n in any order', () => {
    expect(parseBenchCommand(['--json', 'boot', '--n', '3', 'dispatch', '--sessions', '7'])).toEqual({
      groups: ['boot', 'dispatch'],
      json: true,
      help: false,
      n: 3,
      sessions: 7,
    });
  });

  it.each([['nothing'], ['--fast'], ['--n'], ['--n', '0'], ['--n', '1.5'], ['--sessions', '0'], ['constructor']])(
    'refuses %s %s',
    (...argv) => {
      expect(() => parseBenchCommand(argv)).toThrow();
    },
  );
});
