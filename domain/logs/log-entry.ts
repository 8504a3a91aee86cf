import type { Stage } from '../workload/stages.ts';
import type { LogStage } from './log-stage.ts';

export const LOG_LEVELS = ['info', 'warn', 'error'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** One line of a log, as a reader sees it; of a workload by default. */
export interface LogEntry<S extends LogStage = Stage> {
  /** ISO 8601, milliseconds, UTC. */
  readonly timestamp: string;
  readonly stage: S;
  readonly message: string;
  readonly level: LogLevel;
}

/** A log line as its writer numbers it. `(epoch, writer, n)` is its identity: two copies are the same line. */
export interface NumberedLogEntry<S extends LogStage = Stage> extends LogEntry<S> {
  readonly epoch: number;
  /** `control`, or the id of the host that wrote it. */
  readonly writer: string;
  /** Counts from 0 for each (epoch, writer). */
  readonly n: number;
}

/** Which lines of a log to return; absent: all. */
export interface LogFilter {
  readonly stage?: Stage;
  /** The lowest level to return. */
  readonly level?: LogLevel;
}

/** Longest message of one entry, in UTF-16 units; a longer line is cut into several entries. */
export const MAX_LOG_MESSAGE = 8192;

/** @returns whether a level is at least as severe as another. */
export function isAtLeast(level: LogLevel, least: LogLevel): boolean {
  return LOG_LEVELS.indexOf(level) >= LOG_LEVELS.indexOf(least);
}

/** @returns whether a filter selects a line. */
export function isWanted(entry: Pick<LogEntry, 'stage' | 'level'>, { stage, level }: LogFilter): boolean {
  return (stage === undefined || entry.stage === stage) && (level === undefined || isAtLeast(entry.level, level));
}

/** Order in which a reader sees entries of several writers: by time, then by writer and number. */
export function compareLogEntries(a: NumberedLogEntry, b: NumberedLogEntry): number {
  if (a.timestamp !== b.timestamp) return a.timestamp < b.timestamp ? -1 : 1;
  if (a.epoch !== b.epoch) return a.epoch - b.epoch;
  if (a.writer !== b.writer) return a.writer < b.writer ? -1 : 1;
  return a.n - b.n;
}
