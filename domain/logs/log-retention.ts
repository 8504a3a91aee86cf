/** How long the log of a finished workload stays. */
import { isFinal } from '../workload/stages.ts';
import type { WorkloadState } from '../workload/workload.ts';

export interface LogRetention {
  /** Time after the end of a workload when its log may be removed, ms. */
  readonly keepMs: number;
}

/** A month: the time that most Temporal clusters keep closed executions by default. */
export const DEFAULT_LOG_RETENTION: LogRetention = { keepMs: 30 * 24 * 60 * 60 * 1000 };

/**
 * @param state the archived state; undefined where nothing is known of the workload
 * @param now milliseconds since 1970
 * @returns whether its log may be removed: only where the workload is known to have ended long enough ago
 */
export function isLogExpired(
  state: Pick<WorkloadState, 'stage' | 'updatedAt'> | undefined,
  { keepMs }: LogRetention,
  now: number,
): boolean {
  if (state === undefined || !isFinal(state.stage)) return false;
  const over = Date.parse(state.updatedAt);
  return Number.isFinite(over) && now - over > keepMs;
}
