/** The moves between stages as log lines: made from the state, so they appear as soon as the moves happen. */
import { MAX_LOG_MESSAGE, type NumberedLogEntry } from '../logs/log-entry.ts';
import type { WorkloadState } from './workload.ts';

/** Writer of these lines. Its epoch is 0, which no host uses, whatever the name of the host. */
export const STAGE_WRITER = 'stages';

/** @returns one line per move, numbered by its place in the list; a final failure is an error, the rest is info */
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
