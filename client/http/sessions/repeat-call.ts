/** Calls whose answer may get lost, and which may be made again. */
import { setTimeout as delay } from 'node:timers/promises';
import { defined } from '../../../domain/defined.ts';
import { isKilnError } from '../../../domain/failures.ts';
import { backoffMs } from '../../../domain/policies.ts';

export interface RepeatTimings {
  /** How often a call is made at most. */
  readonly tries: number;
  /** Pause after the first try; each further one is twice as long, up to `maxPauseMs`. */
  readonly pauseMs: number;
  readonly maxPauseMs: number;
}

export const REPEAT_TIMINGS: RepeatTimings = { tries: 8, pauseMs: 200, maxPauseMs: 5_000 };

/** What a balancer or proxy answers while no gateway stands behind it. */
const PROXY_STATUSES: readonly unknown[] = [502, 503, 504];

/**
 * Makes a call again for as long as it may have been lost or nobody could answer it.
 * @throws the last error; the signal's reason where it was aborted
 */
export async function repeatCall<T>(
  call: () => Promise<T>,
  { tries, pauseMs, maxPauseMs }: RepeatTimings,
  signal: AbortSignal | undefined,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await call();
    } catch (error) {
      if (attempt >= tries || !mayPass(error)) throw error;
    }
    await delay(backoffMs(attempt, pauseMs, maxPauseMs), undefined, defined({ signal })).catch(() => {
      signal?.throwIfAborted();
    });
  }
}

function mayPass(error: unknown): boolean {
  if (!isKilnError(error)) return false;
  return error.retryable || (error.code === 'INTERNAL' && PROXY_STATUSES.includes(error.details['status']));
}
