import type { KilnClient } from '../client/http/kiln-client.ts';
import type { StackAddress } from '../config/cli-config.ts';
import type { TableStream } from './terminal/stage-table.ts';

/** Takes text of ours, and bytes that pass through unchanged. */
export interface ByteSink {
  /** @returns false where it wants no more before `drain` */
  write(data: string | Uint8Array): unknown;
  once?(event: 'drain', listener: () => void): unknown;
}

/** Everything outside the program that a command uses: real in main.ts, a stand-in in tests. */
export interface CliContext {
  readonly stdout: TableStream & ByteSink;
  readonly stderr: ByteSink;
  /** @throws NOT_FOUND where no stack runs */
  findStack(): Promise<StackAddress>;
  /** The API of the stack that `findStack` finds. */
  connect(): Promise<KilnClient>;
  /** Aborts at Ctrl-C, from now until `release`. */
  interruptible(): { readonly signal: AbortSignal; release(): void };
  /** Called before one of our commands writes: from then on a closed reader (`| head`) ends the program quietly. */
  begin(): void;
  /** Called when the command has ended, unless it succeeded. */
  exit(code: number): void;
  /** Milliseconds since the epoch. */
  now(): number;
  readonly timings: CliTimings;
}

export interface CliTimings {
  /** Time between two polls of an awaited workload. */
  readonly pollMs: number;
  /** How long to retry a stack that does not answer while waiting. */
  readonly giveUpAfterMs: number;
}

export const DEFAULT_CLI_TIMINGS: CliTimings = { pollMs: 300, giveUpAfterMs: 60_000 };

/** Exit codes of every command. */
export const EXIT = { ok: 0, failed: 1, usage: 2, interrupted: 130 } as const;

/** The command line itself is wrong: exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}
