import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { bootTimeMs } from '../../../linux/boot-time.ts';

it('is the time since the machine was started', () => {
  const uptimeMs = () => Number(readFileSync('/proc/uptime', 'latin1').split(' ')[0]) * 1000;
  const before = uptimeMs();
  const now = bootTimeMs();
  expect(now).toBeGreaterThanOrEqual(Math.round(before));
  expect(now).toBeLessThanOrEqual(Math.round(uptimeMs()));
});
