/** Files of a saved workspace: what a caller sees of them, and their bytes. */
import { Readable } from 'node:stream';
import { KilnError } from '../../../domain/failures.ts';
import { folderOf } from '../../../domain/session/workspace.ts';
import {
  isNoRegularFile,
  isNotInWorkspace,
  leadsOutOfWorkspace,
  MAX_LISTED,
  shownTime,
  type WorkspaceEntry,
} from '../../../domain/session/workspace-path.ts';
import type { FileListing, FileLook } from '../../../ports/session-files.ts';
import type { SavedEntry } from './manifest.ts';
import { entriesFrom, findEntry } from './manifest-index.ts';
import { type PackedChunk, saveCorrupt } from './packs.ts';
import type { SavedWorkspace } from './saved-workspace.ts';

/** Bytes of a file from `from` up to, not including, `to`. */
export interface ByteRange {
  readonly from: number;
  readonly to: number;
}

type FileEntry = Extract<SavedEntry, { type: 'file' }>;
type FolderEntry = Extract<SavedEntry, { type: 'folder' }>;

/**
 * Follows links as long as they stay inside.
 * @param path relative, as text
 * @throws NOT_FOUND, SPEC_INVALID where a link leads out; SESSION_CORRUPT, STORE_UNAVAILABLE
 */
export async function lookAt(workspace: SavedWorkspace, path: string): Promise<FileLook> {
  return lookOf(await resolved(workspace, bytesOfText(path)));
}

/** @throws as `lookAt`; SPEC_INVALID where it is no regular file */
export async function openSaved(workspace: SavedWorkspace, path: string): Promise<SavedFile> {
  const entry = await resolved(workspace, bytesOfText(path));
  if (entry.type !== 'file') throw isNoRegularFile(path, 'folder');
  return {
    ...lookOf(entry),
    read: (range, signal) => Readable.from(bytesOfFile(workspace, entry, range, signal), { objectMode: false }),
  };
}

export interface SavedFile extends FileLook {
  /** Fails with SESSION_CORRUPT, STORE_UNAVAILABLE. */
  read(range: ByteRange, signal: AbortSignal): Readable;
}

/** @param dir empty: the workspace itself. @throws as `lookAt`; NOT_FOUND where it is no folder */
export async function listSaved(workspace: SavedWorkspace, dir: string): Promise<FileListing> {
  const folder = dir === '' ? '' : (await resolvedFolder(workspace, dir)).path;
  const entries: WorkspaceEntry[] = [];
  for await (const entry of childrenOf(workspace, folder)) {
    if (entries.length === MAX_LISTED) return { entries: inOrder(entries), isCut: true };
    const name = textOfBytes(entry.path.slice(folder === '' ? 0 : folder.length + 1));
    entries.push({ name, ...(await shown(workspace, entry)) });
  }
  return { entries: inOrder(entries), isCut: false };
}

async function resolvedFolder(workspace: SavedWorkspace, dir: string): Promise<FolderEntry> {
  const entry = await resolved(workspace, bytesOfText(dir));
  if (entry.type !== 'folder') throw isNotInWorkspace();
  return entry;
}

/** What lies in folders below is stepped over, not read. */
async function* childrenOf({ pieces }: SavedWorkspace, folder: string): AsyncGenerator<SavedEntry, undefined> {
  const prefix = folder === '' ? '' : `${folder}/`;
  let from: string | undefined = prefix;
  while (from !== undefined) {
    const start: string = from;
    from = undefined;
    for await (const entry of entriesFrom(pieces, start)) {
      if (!entry.path.startsWith(prefix)) return undefined;
      if (entry.path === '') continue;
      const below = entry.path.indexOf('/', prefix.length);
      if (below === -1) {
        yield entry;
        continue;
      }
      from = `${entry.path.slice(0, below)}${AFTER_SLASH}`;
      break;
    }
  }
  return undefined;
}

/** The next character after `/`: no path below a folder comes after the folder's name with it. */
const AFTER_SLASH = '0';

async function shown(workspace: SavedWorkspace, entry: SavedEntry): Promise<FileLook> {
  if (entry.type === 'symlink') return { ...lookOf(entry), kind: 'link', bytes: entry.target.length };
  return lookOf(entry.type === 'hardlink' ? await fileOfLink(workspace, entry.target) : entry);
}

function lookOf(entry: Exclude<SavedEntry, { type: 'hardlink' }>): FileLook {
  const modifiedAt = shownTime(Number(BigInt(entry.mtimeNs) / 1_000_000n));
  if (entry.type === 'file') return { kind: 'file', bytes: entry.size, modifiedAt };
  return { kind: entry.type === 'folder' ? 'folder' : 'link', bytes: 0, modifiedAt };
}

async function fileOfLink({ pieces }: SavedWorkspace, target: string): Promise<FileEntry> {
  const file = await findEntry(pieces, target);
  if (file?.type === 'file') return file;
  throw saveCorrupt('a hard link of it leads to no file');
}

/** Links in a row, and steps of paths with all their links: more is taken for a circle. */
const MAX_LINKS = 40;
const MAX_STEPS = 4096;
const WORKSPACE_ROOT = '/workspace';

/** Goes from folder to folder as a guest does. @throws NOT_FOUND, SPEC_INVALID */
async function resolved(workspace: SavedWorkspace, path: string): Promise<FileEntry | FolderEntry> {
  const { pieces } = workspace;
  const ahead = path.split('/').reverse();
  let links = 0;
  let folder = await rootOf(workspace);
  for (let steps = 0; ; steps++) {
    const name = ahead.pop();
    if (name === undefined) return folder;
    if (steps > MAX_STEPS) throw tooManyLinks();
    if (name === '' || name === '.') continue;
    if (name === '..') {
      const above = folderOf(folder.path);
      if (above === undefined) throw leadsOutOfWorkspace();
      folder = await folderAt(workspace, above);
      continue;
    }
    const entry = await findEntry(pieces, folder.path === '' ? name : `${folder.path}/${name}`);
    if (entry === undefined) throw isNotInWorkspace();
    if (entry.type === 'symlink') {
      links += 1;
      if (links > MAX_LINKS) throw tooManyLinks();
      const isAbsolute = entry.target.startsWith('/');
      if (isAbsolute) folder = await rootOf(workspace);
      ahead.push(...(isAbsolute ? insideOf(entry.target) : entry.target).split('/').reverse());
      continue;
    }
    if (entry.type === 'folder') {
      folder = entry;
      continue;
    }
    if (ahead.length > 0) throw isNotInWorkspace();
    return entry.type === 'hardlink' ? fileOfLink(workspace, entry.target) : entry;
  }
}

const rootOf = (workspace: SavedWorkspace) => folderAt(workspace, '');

async function folderAt({ pieces }: SavedWorkspace, path: string): Promise<FolderEntry> {
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

const ZEROS = Buffer.alloc(64 * 1024);

async function* bytesOfFile(
  { chunks }: SavedWorkspace,
  { chunks: all }: FileEntry,
  { from, to }: ByteRange,
  signal: AbortSignal,
): AsyncGenerator<Buffer, undefined> {
  const { wanted, skipped } = chunksWithin(all, { from, to });
  let at = skipped;
  for await (const { bytes, data } of chunks.readAll(inTurn(wanted), signal)) {
    const start = Math.max(0, from - at);
    const end = Math.min(bytes, to - at);
    at += bytes;
    if (data !== undefined) yield data.subarray(start, end);
    else yield* zeros(end - start);
  }
  return undefined;
}

/** @returns the chunks with bytes of the range, and how many bytes of the file come before them */
function chunksWithin(
  chunks: readonly PackedChunk[],
  { from, to }: ByteRange,
): { readonly wanted: readonly PackedChunk[]; readonly skipped: number } {
  const wanted: PackedChunk[] = [];
  let skipped = 0;
  let at = 0;
  for (const chunk of chunks) {
    const end = at + chunk.bytes;
    if (end <= from) skipped = end;
    else if (at < to) wanted.push(chunk);
    at = end;
  }
  return { wanted, skipped };
}

export function* zeros(bytes: number): Generator<Buffer, undefined> {
  for (let left = bytes; left > 0; left -= ZEROS.length) yield ZEROS.subarray(0, Math.min(left, ZEROS.length));
  return undefined;
}

async function* inTurn<T>(items: Iterable<T>): AsyncGenerator<T, undefined> {
  yield* items;
  return undefined;
}

const bytesOfText = (text: string) => Buffer.from(text).toString('latin1');
const textOfBytes = (latin1: string) => Buffer.from(latin1, 'latin1').toString();
const inOrder = (entries: WorkspaceEntry[]) => entries.sort((a, b) => (a.name < b.name ? -1 : 1));
