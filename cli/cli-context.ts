import type { KilnClient } from '../client/http/kiln-client.ts';
import type { StackAddress } from '../config/cli-config.ts';
import type { TableStream } from './terminal/stage-table.ts';

/** What a command touches of the world: the real one in main.ts, a stand-in in tests. */
export interface CliContext {
  readonly stdout: TableStream;
  readonly stderr: { write(text: string): unknown };
  /** @throws NOT_FOUND where no stack runs */
  findStack(): Promise<StackAddress>;
  /** The API of the stack that `findStack` finds. */
  connect(): Promise<KilnClient>;
  /** Aborts at Ctrl-C, from now until `release`. */
  interruptible(): { readonly signal: AbortSignal; release(): void };
  /** Called before a command of ours writes: from then on a reader that went away (`| head`) ends the program quietly. */
  begin(): void;
  /** Told once the command has ended, unless it ended well. */
  exit(code: number): void;
  /** Milliseconds since the epoch. */
  now(): number;
  readonly timings: CliTimings;
}

export interface CliTimings {
  /** Between two looks at a workload that is waited for. */
  readonly pollMs: number;
  /** How long a stack that does not answer is asked again while one waits. */
  readonly giveUpAfterMs: number;
}

export const DEFAULT_CLI_TIMINGS: CliTimings = { pollMs: 300, giveUpAfterMs: 60_000 };

/** Exit codes of every command. */
export const EXIT = { ok: 0, failed: 1, usage: 2, interrupted: 130 } as const;

/** The command line itself is wrong: exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}
