import { describe, expect, it } from 'vitest';
import { RequestMeter } from '../../../inspection/process/request-meter.ts';

const LIMITS = { cpuMs: 100, wallMs: 1000, rssBytes: 500, lookEveryMs: 50 };
const reading = (cpuMs: number, rssBytes = 10) => ({ cpuMs, rssBytes });

describe('what a request takes', () => {
  it('is CPU time since its own beginning, not of what was asked before', () => {
    const meter = new RequestMeter(LIMITS, 0);
    expect(meter.look(0, reading(5000))).toBeUndefined();
    expect(meter.look(50, reading(5100))).toBeUndefined();
    expect(meter.look(100, reading(5101))).toBe('cpu');
  });

  it('is memory as it is now', () => {
    const meter = new RequestMeter(LIMITS, 0);
    expect(meter.look(0, reading(0, 500))).toBeUndefined();
    expect(meter.look(50, reading(0, 501))).toBe('memory');
  });

  it('is time, also of a process that cannot be read', () => {
    const meter = new RequestMeter(LIMITS, 0);
    const looks = Array.from({ length: 21 }, (_, n) => meter.look((n + 1) * 50, undefined));
    expect(looks).toEqual([...Array.from({ length: 20 }, () => undefined), 'wall']);
  });

  it('is not the time in which this process itself stood still', () => {
    const meter = new RequestMeter(LIMITS, 0);
    meter.look(50, reading(1));
    expect(meter.look(3_600_000, reading(2))).toBeUndefined();
    expect(meter.look(3_600_050, reading(3))).toBeUndefined();
  });
});
