import type { NumberedLogEntry } from '../../domain/logs/log-entry.ts';

/** One of those who write lines of a workload's log. */
export interface LogWriter {
  readonly workloadId: string;
  readonly epoch: number;
  readonly writer: string;
}

/** What the client needs of the object store to read logs: lines that their writers have stored. */
export interface WorkloadLogs {
  /** Everybody who has written lines of a workload. */
  writers(workloadId: string): Promise<readonly LogWriter[]>;
  /** Up to `limit` lines of one writer with `n` above `after` (-1: from the first), in the order of `n`. */
  read(writer: LogWriter, options: { after: number; limit: number }): Promise<readonly NumberedLogEntry[]>;
}
