/** What a host offers for the workspaces of sessions. Types only; see `ports/README.md`. */
import type { SessionName } from '../domain/names.ts';
import type { SaveMark } from '../domain/session/save-book.ts';

/** The workspace of one placement of a session. */
export interface WorkspaceOf {
  readonly session: SessionName;
  readonly epoch: number;
  readonly vmId: string;
}

/**
 * How sure it is that files belong together. `quiesced`: no process of the guest ran while they were read; `live`: some
 * may have been written just then.
 */
export type SaveConsistency = 'quiesced' | 'live';

/** A save that is whole on its host. */
export interface SpooledSave {
  readonly mark: SaveMark;
  readonly consistency: SaveConsistency;
  readonly entries: number;
  /** Of all files, bytes. */
  readonly bytes: number;
  /** What this save has added to the packs, compressed, bytes. */
  readonly newBytes: number;
  /** Sockets, pipes, devices and mounts, which no save holds. */
  readonly skipped: number;
}

/** What the head of a session names after an upload. */
export interface StoredSave {
  readonly mark: SaveMark;
  /** Bytes that were sent to the store for it. */
  readonly sentBytes: number;
}

export interface RestoredWorkspace {
  readonly mark: SaveMark;
  readonly entries: number;
  readonly bytes: number;
  /** Bytes that were read from the store for it. */
  readonly fetchedBytes: number;
}

/** What heads say, for whoever needs no file. */
export interface SessionHeads {
  /** @returns undefined where the session has no head. @throws STORE_UNAVAILABLE, SESSION_CORRUPT */
  read(session: SessionName): Promise<{ readonly epoch: number; readonly mark?: SaveMark } | undefined>;
}

export interface SessionSaves {
  /**
   * Makes the head this placement's, so that no earlier one writes it any more; again changes nothing.
   * @returns `anothers` where a later placement has it, or it was deleted. @throws STORE_UNAVAILABLE, SESSION_CORRUPT
   */
  claim(of: Pick<WorkspaceOf, 'session' | 'epoch'>): Promise<'ours' | 'anothers'>;
  /**
   * Takes what the workspace is after a turn into this host's spool: what differs from the save before is read, and safe
   * on the disk when this returns. The same mark again is the same save.
   * @throws UNSUPPORTED, AGENT_LOST, AGENT_PROTOCOL, AGENT_TIMEOUT, PAYLOAD_TOO_LARGE, VMM_EXITED, DISK_FULL; CONFLICT
   *   where a later save is there already
   */
  snapshot(of: WorkspaceOf, mark: SaveMark, signal: AbortSignal): Promise<SpooledSave>;
  /**
   * Brings what is spooled of this placement into the store, the newest save last.
   * @returns what the head names then; undefined where nothing was ever saved
   * @throws STORE_UNAVAILABLE; CONFLICT where a later placement has the head, or the session was deleted; SESSION_CORRUPT
   *   where what is spooled is damaged: it is given up, and the next snapshot of the same turn saves everything again
   */
  upload(of: Pick<WorkspaceOf, 'session' | 'epoch'>, signal: AbortSignal): Promise<StoredSave | undefined>;
  /**
   * Makes the head this placement's, and fills the workspace with the newest save: the one that this host has spooled
   * in this placement, or else the one that the head names.
   * @returns undefined where there is no save: the workspace stays as it is
   * @throws as `snapshot`; STORE_UNAVAILABLE, SESSION_CORRUPT, CONFLICT
   */
  restore(of: WorkspaceOf, signal: AbortSignal): Promise<RestoredWorkspace | undefined>;
}
