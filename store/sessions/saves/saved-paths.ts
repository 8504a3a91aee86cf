/** Goes along paths of a saved workspace as a guest does, through links as long as they stay inside. */
import { KilnError } from '../../../domain/failures.ts';
import { folderOf } from '../../../domain/session/workspace.ts';
import { isNotInWorkspace, leadsOutOfWorkspace } from '../../../domain/session/workspace-path.ts';
import type { SavedEntry } from './manifest.ts';
import { findEntry, type ManifestPieces } from './manifest-index.ts';
import { saveCorrupt } from './packs.ts';

export type FileEntry = Extract<SavedEntry, { type: 'file' }>;
export type FolderEntry = Extract<SavedEntry, { type: 'folder' }>;

/** Links in a row, and steps of paths with all their links: more is taken for a circle. */
export const MAX_LINKS = 40;
export const MAX_STEPS = 4096;
const WORKSPACE_ROOT = '/workspace';

/**
 * @param path relative; a character for each byte
 * @returns what is there in the end: no link
 * @throws NOT_FOUND, SPEC_INVALID where a link leads out; SESSION_CORRUPT; what the pieces throw
 */
export async function resolved(pieces: ManifestPieces, path: string): Promise<FileEntry | FolderEntry> {
  const ahead = path.split('/').reverse();
  let links = 0;
  let folder = await folderAt(pieces, '');
  for (let steps = 0; ; steps++) {
    const name = ahead.pop();
    if (name === undefined) return folder;
    if (steps > MAX_STEPS) throw tooManyLinks();
    if (name === '' || name === '.') continue;
    if (name === '..') {
      const above = folderOf(folder.path);
      if (above === undefined) throw leadsOutOfWorkspace();
      folder = await folderAt(pieces, above);
      continue;
    }
    const entry = await findEntry(pieces, folder.path === '' ? name : `${folder.path}/${name}`);
    if (entry === undefined) throw isNotInWorkspace();
    if (entry.type === 'symlink') {
      links += 1;
      if (links > MAX_LINKS) throw tooManyLinks();
      const isAbsolute = entry.target.startsWith('/');
      if (isAbsolute) folder = await folderAt(pieces, '');
      ahead.push(...(isAbsolute ? insideOf(entry.target) : entry.target).split('/').reverse());
      continue;
    }
    if (entry.type === 'folder') {
      folder = entry;
      continue;
    }
    if (ahead.length > 0) throw isNotInWorkspace();
    return entry.type === 'hardlink' ? fileOfLink(await findEntry(pieces, entry.target)) : entry;
  }
}

/** @param target what is at the path that a hard link names. @throws SESSION_CORRUPT where that is no file */
export function fileOfLink(target: SavedEntry | undefined): FileEntry {
  if (target?.type === 'file') return target;
  throw saveCorrupt('a hard link of it leads to no file');
}

async function folderAt(pieces: ManifestPieces, path: string): Promise<FolderEntry> {
  const entry = await findEntry(pieces, path);
  if (entry?.type === 'folder') return entry;
  throw saveCorrupt('it has an entry that is in no folder');
}

/** @returns an absolute target as seen from the workspace. @throws SPEC_INVALID */
function insideOf(target: string): string {
  if (!`${target}/`.startsWith(`${WORKSPACE_ROOT}/`)) throw leadsOutOfWorkspace();
  return target.slice(WORKSPACE_ROOT.length);
}

function tooManyLinks(): KilnError {
  return new KilnError('SPEC_INVALID', 'The path has too many links, or they lead in a circle.');
}
