/** Paths of files in the workspace of a session: below /workspace, never out of it. Pure. */
import { KilnError } from '../failures.ts';
import { entryNameProblem, MAX_ENTRY_PATH } from '../sources/source-tree.ts';

/** Longest path, bytes of UTF-8. */
export const MAX_WORKSPACE_PATH = MAX_ENTRY_PATH;
/** Largest file that can be put, bytes. */
export const MAX_PUT_BYTES = 64 * 1024 * 1024;
/** Most entries of one listing. */
export const MAX_LISTED = 10_000;

/** A path as text: relative, no empty part, no `.`, no `..`, no control characters. Its lengths are checked apart. */
export const WORKSPACE_PATH_PATTERN =
  /^(?!\.{1,2}(?:\/|$))[^/\u0000-\u001f\u007f\ufffd]+(?:\/(?!\.{1,2}(?:\/|$))[^/\u0000-\u001f\u007f\ufffd]+)*$/;

/** @returns what is wrong with the path of a file or folder; undefined: nothing */
export function workspacePathProblem(path: string): string | undefined {
  const problem = entryNameProblem(path);
  if (problem !== undefined) return problem;
  if (!path.isWellFormed()) return 'is no UTF-8';
  return WORKSPACE_PATH_PATTERN.test(path) ? undefined : 'is empty, or has an empty part or "."';
}

/** @returns the size of a file that is put. @throws SPEC_INVALID, PAYLOAD_TOO_LARGE */
export function putSizeOf(contentLength: string | undefined): number {
  if (contentLength === undefined || !/^\d{1,15}$/.test(contentLength)) {
    throw new KilnError('SPEC_INVALID', 'Send the size of the file as Content-Length.');
  }
  const bytes = Number(contentLength);
  if (bytes <= MAX_PUT_BYTES) return bytes;
  throw new KilnError('PAYLOAD_TOO_LARGE', `A file may have at most ${MAX_PUT_BYTES} bytes.`);
}

export function leadsOutOfWorkspace(): KilnError {
  return new KilnError('SPEC_INVALID', 'The path leads out of the workspace.');
}

export function isNotInWorkspace(): KilnError {
  return new KilnError('NOT_FOUND', 'There is no such file or folder in the workspace.');
}

export function isNoRegularFile(path: string, kind: WorkspaceEntryKind): KilnError {
  const fix = kind === 'folder' ? ' List it with dir.' : '';
  return new KilnError('SPEC_INVALID', `${path} is no regular file but a ${kind}.${fix}`);
}

/** @returns a time that a guest has set, as ISO 8601; the beginning of time where no date has it */
export function shownTime(ms: number): string {
  const date = new Date(Math.round(ms));
  const isShown = date.getTime() >= 0 && date.getUTCFullYear() <= 9999;
  return (isShown ? date : new Date(0)).toISOString();
}

/** What a listing says of an entry. A link is shown as what it is, wherever it leads. */
export type WorkspaceEntryKind = 'file' | 'folder' | 'link' | 'other';

export interface WorkspaceEntry {
  readonly name: string;
  readonly kind: WorkspaceEntryKind;
  readonly bytes: number;
  /** ISO 8601, by the guest's clock. */
  readonly modifiedAt: string;
}
