/** The moves between stages as lines of the log: read from the state, so they are there as soon as they happen. */
import { MAX_LOG_MESSAGE, type NumberedLogEntry } from '../logs/log-entry.ts';
import type { WorkloadState } from './workload.ts';

/** Writer of these lines. Its epoch is 0, which no host writes under, whatever the host is called. */
export const STAGE_WRITER = 'stages';

/** @returns one line a move, numbered by its place in the list; a final failure is an error, all else is info */
export function stageLogEntries({ moves }: Pick<WorkloadState, 'moves'>): NumberedLogEntry[] {
  return moves.map(({ seq, at, from, to, cause }) => ({
    timestamp: at,
    stage: to,
    message: `${from} → ${to}: ${cause}`.slice(0, MAX_LOG_MESSAGE),
    level: to === 'failed' ? 'error' : 'info',
    epoch: 0,
    writer: STAGE_WRITER,
    n: seq - 1,
  }));
}
