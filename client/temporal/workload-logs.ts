import type { NumberedLogEntry } from '../../domain/logs/log-entry.ts';

/** A writer of a workload's log. */
export interface LogWriter {
  readonly workloadId: string;
  readonly epoch: number;
  readonly writer: string;
}

/** What the client uses of the object store to read logs: the lines that writers have stored. */
export interface WorkloadLogs {
  /** All writers of a workload's log. */
  writers(workloadId: string): Promise<readonly LogWriter[]>;
  /** Up to `limit` lines of one writer with `n` above `after` (-1: from the first), in the order of `n`. */
  read(writer: LogWriter, options: { after: number; limit: number }): Promise<readonly NumberedLogEntry[]>;
}
