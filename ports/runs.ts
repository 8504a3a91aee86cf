/** What a host offers for the runs of sessions. Types only; see `ports/README.md`. */
import type { SessionName } from '../domain/names.ts';
import type { RunBody } from '../domain/session/run-book.ts';
import type { ExecOutput } from './guest-agent.ts';
import type { SessionSaves } from './saves.ts';

/** One run in a VM: the turns of a session go up, and a VM has one run at a time. */
export interface RunInVm {
  readonly vmId: string;
  readonly turn: number;
}

/** Whose run it is: its output goes into the store under that name. */
export interface RunOwner {
  readonly session: SessionName;
  readonly runId: string;
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
  /** It was killed because nothing had been heard of it for too long. */
  readonly silent: boolean;
  readonly outputBytes: number;
}

export interface FollowOutput {
  readonly after: number;
  readonly maxBytes: number;
  readonly waitMs: number;
  readonly signal: AbortSignal;
}

export interface FollowedOutput {
  readonly pieces: readonly ExecOutput[];
  /**
   * Nothing follows these pieces: the run has ended on this host, or nobody reads from its guest, because its VM is gone
   * or because the worker that goes on with it has not been asked to yet.
   */
  readonly isLast: boolean;
  /** The run that has this turn in the VM, once one has it. */
  readonly runId?: string;
}

export interface SessionRuns {
  /**
   * Runs the command once, however often this is called: a second call joins the first, and a later process attaches to
   * what runs, or answers with the exit on record.
   * @param silentMs without output, use of CPU and bytes to or from the outside for so long, it is killed
   * @param command asked for only where the process has to be started
   * @throws UNSUPPORTED where the guest's agent is too old: nothing was started; CANCELLED where `cancel` came first; RUN_LOST where the guest knows nothing of a started run; CONFLICT
   *   where the VM has come to a later turn; AGENT_LOST, VMM_EXITED
   */
  run(
    run: RunInVm &
      RunOwner & { readonly timeoutMs: number; readonly silentMs: number; readonly command: () => Promise<RunCommand> },
    signal: AbortSignal,
  ): Promise<RunExit>;
  /** Kills the run, or sees to it that it never starts. An ended run, and an unknown VM, stay as they are. */
  cancel(run: RunInVm): Promise<void>;
  /** Whether the run has ended in its VM, however. */
  isOver(run: RunInVm): Promise<boolean>;
  /** Output from position `after` on, about `maxBytes`; none where there is nothing more yet. @throws NOT_FOUND */
  readOutput(run: RunInVm, after: number, maxBytes: number): Promise<readonly ExecOutput[]>;
  /**
   * As `readOutput`, but waits until there is something, the run has ended, or `waitMs` are over; also for a run that
   * has not begun.
   */
  followOutput(run: RunInVm, options: FollowOutput): Promise<FollowedOutput>;
}

/** Opens what callers sent: the command and environment of a run. */
export interface SealedRequests {
  /** @throws SESSION_CORRUPT, NOT_FOUND, STORE_UNAVAILABLE */
  open(session: SessionName, runId: string, body: RunBody): Promise<RunCommand>;
}

/** Seals what callers send. */
export interface RunRequestSeal {
  /** @returns the body of an order, and its size before it was sealed. @throws PAYLOAD_TOO_LARGE, STORE_UNAVAILABLE */
  seal(session: SessionName, runId: string, command: RunCommand): Promise<{ body: RunBody; bytes: number }>;
}

/** The VMs of sessions: their guests can wait. */
export interface SessionVms {
  /**
   * A paused VM stays as it is.
   * @param signal aborted once nobody waits for this call any more: what has not begun must not be done then
   * @throws NOT_FOUND, VMM_EXITED, GUEST_CRASHED
   */
  pause(vmId: string, signal?: AbortSignal): Promise<void>;
  /** `host:port` or `*.domain:port`; empty: nothing. @param signal as for `pause` @throws NOT_FOUND */
  setEgress(vmId: string, allow: readonly string[], signal?: AbortSignal): Promise<void>;
  /**
   * A running VM stays as it is. Where the host has no room for it, it waits in the host's line, for at most `waitMs`, and
   * keeps its place for whoever asks again. @throws as `pause`, AGENT_TIMEOUT; NO_CAPACITY
   */
  resume(
    vmId: string,
    options: { readonly deadlineMs: number; readonly waitMs: number; readonly signal: AbortSignal },
  ): Promise<void>;
}

/** What a host offers to the activities of sessions. */
export interface SessionPorts {
  readonly runs: SessionRuns;
  readonly requests: SealedRequests;
  readonly vms: SessionVms;
  readonly saves: SessionSaves;
}
