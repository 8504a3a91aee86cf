/** Waits until what a run, or a file, has changed in a workspace is in the object store. */
import { setTimeout as delay } from 'node:timers/promises';
import { isKilnError } from '../../domain/failures.ts';

export interface UntilSavedOptions {
  /** Pauses between two looks, ms: the first, and the longest. */
  readonly lookMs: number;
  readonly maxLookMs: number;
  readonly signal: AbortSignal;
}

/**
 * Looks until there is an answer; a moment without Temporal or store is waited for.
 * @param look undefined: not yet
 * @returns undefined where the signal was aborted first. @throws what `look` throws
 */
export async function untilSaved<T>(
  look: () => Promise<T | undefined>,
  { lookMs, maxLookMs, signal }: UntilSavedOptions,
): Promise<T | undefined> {
  for (let pauseMs = lookMs; !signal.aborted; pauseMs = Math.min(pauseMs * 2, maxLookMs)) {
    const found = await look().catch(undefinedIfAway);
    if (found !== undefined) return found;
    await delay(pauseMs, undefined, { signal }).catch(() => undefined);
  }
  return undefined;
}

function undefinedIfAway(error: unknown): undefined {
  if (!isKilnError(error, 'TEMPORAL_UNAVAILABLE', 'STORE_UNAVAILABLE')) throw error;
}
