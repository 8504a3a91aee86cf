/** What a host offers for the runs of sessions. Types only; see `ports/README.md`. */
import type { ExecOutput } from './guest-agent.ts';

/** One run in a VM: the turns of a session go up, and a VM has one run at a time. */
export interface RunInVm {
  readonly vmId: string;
  readonly turn: number;
}

export interface RunCommand {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** How the process of a run ended, by the agent's explicit message; its whole output is safe on this host. */
export interface RunExit {
  readonly code: number | null;
  readonly signal: string | null;
  /** It was killed for its time limit. */
  readonly timedOut: boolean;
  readonly outputBytes: number;
}

export interface SessionRuns {
  /**
   * Runs the command once, however often this is called: a second call joins the first, and a later process attaches to
   * what runs, or answers with the exit on record.
   * @param command asked for only where the process has to be started
   * @throws CANCELLED where `cancel` came first; RUN_LOST where the guest knows nothing of a started run; CONFLICT
   *   where the VM has come to a later turn; AGENT_LOST, VMM_EXITED
   */
  run(
    run: RunInVm & { readonly timeoutMs: number; readonly command: () => Promise<RunCommand> },
    signal: AbortSignal,
  ): Promise<RunExit>;
  /** Kills the run, or sees to it that it never starts. An ended run, and an unknown VM, stay as they are. */
  cancel(run: RunInVm): Promise<void>;
  /** Output from position `after` on, about `maxBytes`; none where there is nothing more yet. @throws NOT_FOUND */
  readOutput(run: RunInVm, after: number, maxBytes: number): Promise<readonly ExecOutput[]>;
}
