/** How long the log of a workload that is over is kept. */
import { isFinal } from '../workload/stages.ts';
import type { WorkloadState } from '../workload/workload.ts';

export interface LogRetention {
  /** Age of a final stage after which the log goes, ms. */
  readonly keepMs: number;
}

/** A month: as long as Temporal keeps what is closed, by default of most clusters. */
export const DEFAULT_LOG_RETENTION: LogRetention = { keepMs: 30 * 24 * 60 * 60 * 1000 };

/**
 * @param state as it was archived; undefined where nothing is known of the workload
 * @param now milliseconds since 1970
 * @returns whether its log may go. Of what is not known to be over for so long, nothing goes.
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
