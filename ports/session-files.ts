/** What a host offers for files in the workspace of a session's VM. Types only; see `ports/README.md`. */
import type { Readable } from 'node:stream';
import type { WorkspaceEntry, WorkspaceEntryKind } from '../domain/session/workspace-path.ts';

/** A VM, and whom the caller takes for its owner. */
export interface OwnedVm {
  readonly vmId: string;
  readonly workflowId: string;
  readonly epoch: number;
}

export interface FileLook {
  readonly kind: WorkspaceEntryKind;
  readonly bytes: number;
  /** ISO 8601, by the guest's clock. */
  readonly modifiedAt: string;
}

/**
 * Every call needs a guest that runs. Paths are relative to /workspace and well-formed.
 * @throws NOT_FOUND (no such VM, no such file), CONFLICT (the VM is paused: hold it first; it is another's),
 *   SPEC_INVALID (a path that leads out of /workspace through a link), VMM_EXITED, AGENT_LOST
 */
export interface SessionFiles {
  /** Follows links as long as they stay inside. */
  look(vm: OwnedVm, path: string): Promise<FileLook>;
  /** @throws SPEC_INVALID where it is no regular file */
  read(vm: OwnedVm, path: string): Promise<FileLook & { readonly content: Readable }>;
  /**
   * Writes a whole file beside its name, then renames it: nobody ever sees a part of it. Folders above are made; a link
   * of that name is replaced.
   * @param bytes exact size of the content
   * @throws CONFLICT where a folder has that name, DISK_FULL, what the content fails with
   */
  write(vm: OwnedVm, path: string, file: { readonly bytes: number; readonly content: Readable }): Promise<WrittenFile>;
  /** Removes a file, a link, or an empty folder. @throws CONFLICT where the folder is not empty */
  remove(vm: OwnedVm, path: string): Promise<void>;
  /** @param dir empty: /workspace itself */
  list(vm: OwnedVm, dir: string): Promise<FileListing>;
}

export interface WrittenFile {
  /** Whether nothing had that name before. */
  readonly created: boolean;
}

export interface FileListing {
  /** In the order of names. */
  readonly entries: readonly WorkspaceEntry[];
  /** There are more than are listed. */
  readonly isCut: boolean;
}
