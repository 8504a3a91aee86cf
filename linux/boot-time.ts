/** A clock that goes on while the machine sleeps, unlike `performance.now()`, and that nobody sets, unlike `Date.now()`. */
import { readFileSync } from 'node:fs';
import { KilnError } from '../domain/failures.ts';

/** @returns ms since the machine was started, in steps of 10 (CLOCK_BOOTTIME: proc(5), `/proc/uptime`) */
export function bootTimeMs(): number {
  const seconds = Number(readFileSync('/proc/uptime', 'latin1').split(' ')[0]);
  if (Number.isFinite(seconds)) return Math.round(seconds * 1000);
  throw new KilnError('INTERNAL', '/proc/uptime does not say how long this machine runs.');
}
