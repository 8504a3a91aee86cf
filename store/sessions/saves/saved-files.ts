/** Files of a saved workspace: what a caller sees of them, and their bytes. */
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { KilnError } from '../../../domain/failures.ts';
import {
  isNoRegularFile,
  isNotInWorkspace,
  MAX_LISTED,
  shownTime,
  type WorkspaceEntry,
} from '../../../domain/session/workspace-path.ts';
import type { FileListing, FileLook } from '../../../ports/session-files.ts';
import type { SavedEntry } from './manifest.ts';
import { entriesFrom, findEntries, type ManifestPieces } from './manifest-index.ts';
import type { PackedChunk } from './packs.ts';
import { type FileEntry, type FolderEntry, fileOfLink, resolved } from './saved-paths.ts';
import type { SavedWorkspace } from './saved-workspace.ts';

/** Bytes of a file from `from` up to, not including, `to`. */
export interface ByteRange {
  readonly from: number;
  readonly to: number;
}

/** What finding something may cost. */
export interface LookLimits {
  readonly signal: AbortSignal;
  /** Pieces of the manifest that are fetched from the store; those that are known cost nothing. */
  readonly maxReads: number;
}

export interface SavedLook extends FileLook {
  /** A strong entity tag of HTTP: the same bytes, as long as it is the same. */
  readonly etag: string;
}

/**
 * Follows links as long as they stay inside.
 * @param path relative, as text
 * @throws NOT_FOUND, SPEC_INVALID where a link leads out; INSPECTION_LIMIT beyond the limits; SESSION_CORRUPT,
 *   STORE_UNAVAILABLE, the reason of the signal
 */
export async function lookAt(workspace: SavedWorkspace, path: string, limits: LookLimits): Promise<SavedLook> {
  const entry = await resolved(piecesWithin(workspace, limits), bytesOfText(path));
  return { ...lookOf(entry), etag: etagOf(workspace, path) };
}

/** @throws as `lookAt`; SPEC_INVALID where it is no regular file */
export async function openSaved(workspace: SavedWorkspace, path: string, limits: LookLimits): Promise<SavedFile> {
  const entry = await resolved(piecesWithin(workspace, limits), bytesOfText(path));
  if (entry.type !== 'file') throw isNoRegularFile(path, 'folder');
  return {
    ...lookOf(entry),
    etag: etagOf(workspace, path),
    turn: workspace.tree.turn,
    read: (range, signal) => Readable.from(bytesOfFile(workspace, entry, range, signal), { objectMode: false }),
  };
}

export interface SavedFile extends SavedLook {
  readonly turn: number;
  /** Fails with SESSION_CORRUPT, STORE_UNAVAILABLE, the reason of the signal. */
  read(range: ByteRange, signal: AbortSignal): Readable;
}

/** @param dir empty: the workspace itself. @throws as `lookAt`; NOT_FOUND where it is no folder */
export async function listSaved(workspace: SavedWorkspace, dir: string, limits: LookLimits): Promise<FileListing> {
  const pieces = piecesWithin(workspace, limits);
  const folder = dir === '' ? '' : (await resolvedFolder(pieces, dir)).path;
  const found: Found[] = [];
  let isCut = false;
  for await (const entry of childrenOf(pieces, folder)) {
    isCut = found.length === MAX_LISTED;
    if (isCut) break;
    found.push(foundOf(entry, folder));
  }
  return { entries: inOrder(await shown(pieces, found)), isCut };
}

/** An entry of a folder, or the path of the file that it is another name of. */
type Found = WorkspaceEntry | { readonly name: string; readonly target: string };

function foundOf(entry: SavedEntry, folder: string): Found {
  const name = textOfBytes(entry.path.slice(folder === '' ? 0 : folder.length + 1));
  if (entry.type === 'hardlink') return { name, target: entry.target };
  return { name, ...lookOf(entry), ...(entry.type === 'symlink' ? { bytes: entry.target.length } : {}) };
}

/** Hard links are shown as their files, which are found all together: those may lie anywhere. */
async function shown(pieces: ManifestPieces, found: readonly Found[]): Promise<WorkspaceEntry[]> {
  const targets = found.flatMap((one) => ('target' in one ? [one.target] : []));
  const files = new Map<string, FileLook>();
  for await (const { path, entry } of findEntries(pieces, targets)) files.set(path, lookOf(fileOfLink(entry)));
  return found.map((one) => {
    if (!('target' in one)) return one;
    return { name: one.name, ...(files.get(one.target) ?? lookOf(fileOfLink(undefined))) };
  });
}

async function resolvedFolder(pieces: ManifestPieces, dir: string): Promise<FolderEntry> {
  const entry = await resolved(pieces, bytesOfText(dir));
  if (entry.type !== 'folder') throw isNotInWorkspace();
  return entry;
}

function piecesWithin(workspace: SavedWorkspace, { signal, maxReads }: LookLimits): ManifestPieces {
  let reads = 0;
  const onFetch = () => {
    reads += 1;
    if (reads > maxReads) throw tooMuch(maxReads);
  };
  return workspace.pieces({ signal, onFetch });
}

function tooMuch(maxReads: number): KilnError {
  const fix = 'List a folder with fewer folders or links in it, ask for a path with fewer links, or fetch the tar.';
  return new KilnError('INSPECTION_LIMIT', `To find this, more than ${maxReads} pieces of the save are read. ${fix}`);
}

/** The tree has the state of every file; within it, a path has one. */
function etagOf({ tree, treeSha256 }: SavedWorkspace, path: string): string {
  const digest = createHash('sha256').update(`${treeSha256} ${path}`).digest('hex');
  return `"${tree.saveId}-${digest.slice(0, 32)}"`;
}

/** What lies in folders below is stepped over, not read. */
async function* childrenOf(pieces: ManifestPieces, folder: string): AsyncGenerator<SavedEntry, undefined> {
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

function lookOf(entry: Exclude<SavedEntry, { type: 'hardlink' }>): FileLook {
  const modifiedAt = shownTime(Number(BigInt(entry.mtimeNs) / 1_000_000n));
  if (entry.type === 'file') return { kind: 'file', bytes: entry.size, modifiedAt };
  return { kind: entry.type === 'folder' ? 'folder' : 'link', bytes: 0, modifiedAt };
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
