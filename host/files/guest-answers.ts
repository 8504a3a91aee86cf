/** Reads what the scripts print. It comes from a guest: nothing of it is trusted, everything is bounded. Pure. */
import { KilnError } from '../../domain/failures.ts';
import {
  leadsOutOfWorkspace,
  shownTime,
  type WorkspaceEntry,
  type WorkspaceEntryKind,
} from '../../domain/session/workspace-path.ts';
import type { FileLook } from '../../ports/session-files.ts';

const FILE_TYPE = 0xf000;
const KINDS: Readonly<Record<number, WorkspaceEntryKind>> = { 32768: 'file', 16384: 'folder', 40960: 'link' };
const LETTERS: Readonly<Record<string, WorkspaceEntryKind>> = { f: 'file', d: 'folder', l: 'link' };
const ROOT = '/workspace/';

/**
 * @returns the look, and the path below /workspace without any link in it
 * @throws SPEC_INVALID where the real path is outside, AGENT_PROTOCOL
 */
export function parseLook(output: Buffer): FileLook & { readonly realPath: string } {
  const [, mode, bytes, seconds, real] =
    /^([0-9a-f]{1,8}) (\d{1,19}) (-?\d{1,19}(?:\.\d+)?)\n([^\0]+)\0$/.exec(output.toString('utf8')) ?? [];
  if (mode === undefined || real === undefined) throw notUnderstood();
  if (!`${real}/`.startsWith(ROOT)) throw leadsOutOfWorkspace();
  const kind = KINDS[Number.parseInt(mode, 16) & FILE_TYPE] ?? 'other';
  return { kind, bytes: Number(bytes), modifiedAt: timeOf(seconds), realPath: real.slice(ROOT.length) };
}

/** @returns the whole entries of an output that may be cut, in the order of names. @throws AGENT_PROTOCOL */
export function parseListing(output: Buffer): readonly WorkspaceEntry[] {
  const fields = output.toString('utf8').split('\0');
  const entries: WorkspaceEntry[] = [];
  for (let at = 0; at + 4 < fields.length; at += 4) {
    const [letter = '', bytes = '', seconds, name = ''] = fields.slice(at, at + 4);
    if (!/^[a-zA-Z?]$/.test(letter) || !/^\d{1,19}$/.test(bytes) || name === '') throw notUnderstood();
    entries.push({ name, kind: LETTERS[letter] ?? 'other', bytes: Number(bytes), modifiedAt: timeOf(seconds) });
  }
  return entries.sort((a, b) => (a.name < b.name ? -1 : 1));
}

const timeOf = (seconds: string | undefined) => shownTime(Number(seconds) * 1000);

function notUnderstood(): KilnError {
  return new KilnError('AGENT_PROTOCOL', 'The guest described its files in an unknown way; has the image GNU tools?');
}
