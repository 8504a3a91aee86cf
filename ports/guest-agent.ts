/**
 * What Kiln needs of the agent in a guest. Types only; the rules of `ports/README.md` hold.
 */

import type { Duplex, Readable } from 'node:stream';
import type { SkippedPath, WorkspaceEntry } from '../domain/session/workspace.ts';
import type { GuestIdentity } from '../domain/vm.ts';

export interface AgentHello {
  readonly agentVersion: string;
  readonly protocol: number;
  /** Random, made when the agent process started: changes with a reboot, not with a reattach. */
  readonly bootId: string;
  /** What the agent can do beyond the first version of the protocol; at most 64 names of at most 64 characters. */
  readonly features: readonly string[];
}

export type OutputStream = 'stdout' | 'stderr';

export interface ExecRequest {
  /** Chosen by the host; a second start with the same id attaches to the first instead of running twice. */
  readonly execId: string;
  readonly argv: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Absolute in the guest; default `/workspace`. */
  readonly cwd?: string;
  readonly uid?: number;
  readonly gid?: number;
  /** Bytes written to stdin, which is closed afterwards; default: empty. */
  readonly stdin?: Buffer;
  /** The group is killed after this; absent = never. */
  readonly timeoutMs?: number;
  /**
   * `ring`: the process is never blocked, old unacknowledged output is dropped and its place marked with a gap.
   * `wait`: nothing is dropped, the process blocks while its output is not acknowledged.
   */
  readonly output: 'ring' | 'wait';
  /** Bytes of unacknowledged output kept in the guest, both streams together. Default 1 MiB. */
  readonly bufferBytes?: number;
  /**
   * Gives the exec a control group, and kills what still runs in it so many ms (0 to 60,000) after its first process has
   * exited; `exit` comes once nothing of it runs any more. SIGKILL and `timeoutMs` then kill all of the group, too.
   * Absent = nothing but the process group is killed. Needs the feature `exec-cgroup`.
   */
  readonly killLeftoversAfterMs?: number;
}

/** A piece of output. Offsets count the bytes of both streams together, in the order the agent read them. */
export type ExecOutput =
  | { readonly kind: 'data'; readonly stream: OutputStream; readonly offset: number; readonly data: Buffer }
  /** Bytes `offset` … `offset + bytes` were dropped in the guest. */
  | { readonly kind: 'gap'; readonly offset: number; readonly bytes: number };

export interface ExecExit {
  readonly code: number | null;
  readonly signal: string | null;
  readonly timedOut: boolean;
}

export interface ExecHandle {
  readonly execId: string;
  /** Pid in the guest. */
  readonly pid: number;
  /** Ends when the process has exited and all output was handed out; throws AGENT_LOST when the channel is lost. */
  readonly output: AsyncIterable<ExecOutput>;
  /** Resolves only on the agent's explicit exit message; rejects with AGENT_LOST when the channel is lost. */
  readonly exit: Promise<ExecExit>;
  /** The guest may forget everything below `offset`. `output` acknowledges by itself unless `manualAck`. */
  acknowledge(offset: number): void;
  /** To the whole process group; SIGKILL to the whole control group of an exec with `killLeftoversAfterMs`. */
  signal(name: 'SIGTERM' | 'SIGKILL' | 'SIGINT' | 'SIGHUP'): Promise<void>;
  /**
   * What the control group of an exec with `killLeftoversAfterMs` uses; once it has ended, what it used in all.
   * @throws UNSUPPORTED where the agent lacks the feature `exec-usage`, or the exec has no control group
   */
  usage(): Promise<ExecUsage>;
}

export interface ExecUsage {
  /** CPU time of all that has run in the exec since its start, over all cores, ms. */
  readonly cpuMs: number;
  /** Processes that run in it now. */
  readonly processes: number;
}

export interface AttachOptions {
  /** First byte of output wanted; default 0. Older bytes that are gone are reported as a gap. */
  readonly fromOffset?: number;
  /** The reader acknowledges by itself when the output is safe (e.g. after fsync). */
  readonly manualAck?: boolean;
}

export interface ExecSummary {
  readonly execId: string;
  readonly pid: number;
  readonly exit?: ExecExit;
}

/** Handles a connection that a guest program opened to `name:port`. */
export type EgressHandler = (request: { name: string; port: number }) => Promise<EgressVerdict>;

export type EgressVerdict =
  | {
      readonly allow: true;
      readonly socket: Duplex;
      /** Told of the bytes that are passed on, of both directions. */
      readonly onBytes?: (bytes: number) => void;
    }
  | { readonly allow: false; readonly reason: string };

/** How the files of a guest are saved and brought back. */
export interface WorkspaceAgent {
  /**
   * Saves what is below a folder. Chunks come before the entry that needs them; entries and removed paths come in the
   * order of their paths. The last record is `done`: without it there is no save.
   * @throws UNSUPPORTED where the agent lacks the feature `workspace-save`, CONFLICT while it saves or restores already,
   *   AGENT_PROTOCOL, AGENT_TIMEOUT, PAYLOAD_TOO_LARGE, AGENT_LOST
   */
  saveWorkspace(request: SaveRequest): AsyncIterable<SaveRecord>;
  /**
   * Replaces everything below a folder by these entries, each file followed by its chunks that are no holes. No process
   * may run in the guest.
   * @throws as `saveWorkspace`; DISK_FULL; CONFLICT while a process runs; or the error of the records
   */
  restoreWorkspace(
    request: Omit<SaveRequest, 'baseSaveId'>,
    records: AsyncIterable<RestoreRecord>,
  ): Promise<{ readonly entries: number; readonly bytes: number }>;
}

/** The only connection, multiplexed, between a host and a guest's agent. One owner at a time. */
export interface AgentChannel extends WorkspaceAgent {
  readonly hello: AgentHello;
  /** The features of the hello. A request that needs one which is missing is UNSUPPORTED. */
  readonly features: ReadonlySet<string>;
  /** Resolves (never rejects) once the connection is gone, with the reason. */
  readonly closed: Promise<Error>;
  ping(): Promise<void>;
  configure(identity: GuestIdentity): Promise<void>;
  /**
   * Starts a process, or attaches to the one that has this id.
   * @throws UNSUPPORTED where the request needs a feature that the agent does not have
   */
  exec(request: ExecRequest, options?: AttachOptions): Promise<ExecHandle>;
  /** @throws NOT_FOUND where the agent knows no such exec. */
  attachExec(execId: string, options?: AttachOptions): Promise<ExecHandle>;
  /** Every exec this agent knows, running or ended. */
  listExecs(): Promise<readonly ExecSummary[]>;
  /** Unpacks a tar below `path` (made if absent). Refuses entries that would leave it. */
  putTar(path: string, tar: Readable): Promise<{ bytes: number }>;
  /** Packs `paths` (relative to `root`; empty = all) as a tar with stable order and zeroed owners. */
  getTar(root: string, paths: readonly string[], exclude?: readonly string[]): Readable;
  /** Opens a stream to a port of the guest's loopback. @throws NOT_FOUND where nothing listens. */
  connectTcp(port: number): Promise<Duplex>;
  /** Passes the guest's outgoing connections, by name, to this handler; without one every connection is refused. */
  serveEgress(handler: EgressHandler): void;
  /** Memory and CPU of the guest, as the agent reads them from /proc. */
  usage(): Promise<GuestUsage>;
  /** Sets the guest's wall clock, which did not run while the VM was paused. */
  setClock(wallClockMs: number): Promise<void>;
  /**
   * Prepares the guest to be frozen as a template: no process runs, nothing is left in caches, disks match memory.
   * @throws CONFLICT while a process runs
   */
  quiesce(): Promise<void>;
  /** Syncs disks and powers the guest off. Resolves when the agent has confirmed. */
  shutdown(): Promise<void>;
  /** Closes the connection without disturbing the guest. */
  detach(): Promise<void>;
}

export interface SaveRequest {
  /** Absolute in the guest. */
  readonly path: string;
  /** 1 to 100 of `[A-Za-z0-9._-]`. */
  readonly saveId: string;
  /** The save that the caller has: where the agent's index is of the same one, only what differs comes. */
  readonly baseSaveId?: string;
  /** 64 hex digits. */
  readonly saltHex: string;
}

export type SaveRecord =
  /** The first record. Without `delta`, everything comes. */
  | { readonly kind: 'opened'; readonly delta: boolean }
  | { readonly kind: 'chunk'; readonly data: Buffer }
  | { readonly kind: 'entry'; readonly entry: WorkspaceEntry }
  | { readonly kind: 'removed'; readonly path: string }
  | { readonly kind: 'skipped'; readonly skipped: SkippedPath }
  | { readonly kind: 'done'; readonly summary: SaveSummary };

export type RestoreRecord =
  | { readonly kind: 'entry'; readonly entry: WorkspaceEntry }
  | { readonly kind: 'chunk'; readonly data: Buffer };

/** What the agent did for a save. */
export interface SaveSummary {
  readonly entries: number;
  readonly files: number;
  /** Of all files, holes included. */
  readonly bytes: number;
  readonly readFiles: number;
  readonly readBytes: number;
  readonly sentChunks: number;
  readonly sentBytes: number;
  readonly skipped: number;
  /** Files that changed while they were read. */
  readonly changed: number;
  readonly scanMs: number;
  readonly totalMs: number;
}

export interface GuestUsage {
  readonly memUsedBytes: number;
  readonly memTotalBytes: number;
  /** Busy CPU time since boot, all cores, ms. */
  readonly cpuMs: number;
}
