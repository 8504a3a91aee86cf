/** Logs of VM owners: the writers of hosts and of control workers. Types only; see the rules in `ports/README.md`. */
import type { LogLevel } from '../domain/logs/log-entry.ts';
import type { LogStage } from '../domain/logs/log-stage.ts';
import type { LogRef, OwnerId } from '../domain/owner.ts';
import type { Stage } from '../domain/workload/stages.ts';
import type { ExecOutput } from './guest-agent.ts';

/** One log on this host. Lines are safe on disk when `flush` resolves. */
export interface LogWriter {
  write(stage: LogStage, level: LogLevel, message: string): void;
  /** Writes the lines of a process's output until it ends. @returns the last `tailLines` of them */
  writeOutput(stage: LogStage, output: AsyncIterable<ExecOutput>, tailLines: number): Promise<readonly string[]>;
  flush(): Promise<void>;
}

export interface OwnerLogs {
  /** Finds or makes the spool; numbering continues where it stopped. */
  open(log: LogRef): Promise<LogWriter>;
  /** Output offset of the service up to which lines are on disk; 0 where unknown. */
  serviceOffset(log: LogRef): Promise<number>;
  /** Records that offset, after the lines up to it are on disk. */
  saveServiceOffset(log: LogRef, offset: number): Promise<void>;
  /** Ships what is not in the store yet. @throws STORE_UNAVAILABLE (the spool keeps the lines) */
  ship(log: LogRef): Promise<void>;
  /**
   * Marks the start of a piece of work for an owner: while one is running, the owner's workflow waits for this host, so
   * readers of the log wait only for this host. @returns the function to call at its end
   */
  attend(owner: OwnerId): () => void;
}

/** Entries of the control writer: numbered by the workflow, each in its own object, written at most once. */
export interface ControlLog {
  append(request: {
    workloadId: string;
    epoch: number;
    n: number;
    stage: Stage;
    level: LogLevel;
    message: string;
    /** ISO 8601, when the line was made; absent: now. */
    timestamp?: string;
  }): Promise<void>;
}
