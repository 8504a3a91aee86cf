/**
 * The manifest of a save: a line of JSON for each entry, in the order of their paths, cut into pieces. Where it is cut
 * depends on the paths around, so a change in one place leaves the pieces of all others as they were.
 */
import { MAX_PIECE_BYTES, type ManifestLine, manifestLineSchema } from '../../../contracts/store/save-documents.ts';
import { defined } from '../../../domain/defined.ts';
import { KilnError } from '../../../domain/failures.ts';
import { hash64 } from '../../../domain/hash64.ts';
import { jsonOrUndefined } from '../../../domain/json-or-undefined.ts';
import { isWorkspacePath, type WorkspaceEntry } from '../../../domain/session/workspace.ts';
import { type PackedChunk, saveCorrupt } from './packs.ts';

export type SavedEntry = WorkspaceEntry<PackedChunk>;

/** A piece has at least so many entries, unless they are long, and at most the other number; in between, chance decides. */
const MIN_ENTRIES = 64;
const MAX_ENTRIES = 4096;
/** A path with a hash that ends in these bits 0 ends a piece. */
const CUT_MASK = 0xff;
/** A piece that has so many bytes ends. */
const LONG_PIECE = 256 * 1024;

/** @returns an entry as a line, with its end */
export function manifestLine(entry: SavedEntry): string {
  return `${JSON.stringify(plainLine(entry))}\n`;
}

function plainLine(entry: SavedEntry): ManifestLine {
  const path = base64(entry.path);
  if (entry.type === 'hardlink') return { path, type: entry.type, target: base64(entry.target) };
  const { uid, gid, mtimeNs } = entry;
  if (entry.type === 'symlink') return { path, type: entry.type, uid, gid, mtimeNs, target: base64(entry.target) };
  const withMode = { mode: entry.mode, uid, gid, mtimeNs };
  const xattrs = defined({ xattrs: entry.xattrs && sorted(entry.xattrs) });
  if (entry.type === 'folder') return { path, type: entry.type, ...withMode, ...xattrs };
  return { path, type: entry.type, ...withMode, size: entry.size, chunks: entry.chunks.map(plainChunk), ...xattrs };
}

/** The order in which a guest names them says nothing. */
function sorted(fields: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(fields).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function plainChunk({ id, bytes, place }: PackedChunk): (ManifestLine & { type: 'file' })['chunks'][number] {
  return place === undefined ? ['', bytes] : [id, bytes, place.pack, place.offset, place.length];
}

/** @returns the entry of a line. @throws SESSION_CORRUPT */
export function entryOfLine(line: string): SavedEntry {
  const parsed = manifestLineSchema.safeParse(jsonOrUndefined(line));
  if (!parsed.success) throw saveCorrupt('a line of its manifest is no entry', parsed.error);
  const { data } = parsed;
  const path = latin1(data.path);
  if (!isWorkspacePath(path)) throw saveCorrupt('its manifest names a path outside');
  if (data.type === 'hardlink' || data.type === 'symlink') return { ...data, path, target: latin1(data.target) };
  if (data.type === 'folder') return { ...data, path };
  const chunks = data.chunks.map(
    ([id, bytes, pack, offset, length]): PackedChunk =>
      pack === undefined || offset === undefined || length === undefined
        ? { id, bytes }
        : { id, bytes, place: { pack, offset, length } },
  );
  return { ...data, path, chunks };
}

/** @returns the lines of a piece, without their ends. @throws SESSION_CORRUPT */
export function linesOf(piece: Buffer): string[] {
  const lines = piece.toString().split('\n');
  if (lines.pop() !== '') throw saveCorrupt('a piece of its manifest breaks off');
  return lines;
}

export interface PieceCutter {
  /** @returns a piece that ends with this line, where one does. @throws PAYLOAD_TOO_LARGE for an endless line */
  add(path: string, line: string): Buffer | undefined;
  /** @returns the last piece, where there is one */
  end(): Buffer | undefined;
}

export function createPieceCutter(): PieceCutter {
  let lines: string[] = [];
  let bytes = 0;
  const end = () => {
    if (lines.length === 0) return undefined;
    const piece = Buffer.from(lines.join(''));
    lines = [];
    bytes = 0;
    return piece;
  };
  return {
    add(path, line) {
      if (line.length > MAX_PIECE_BYTES - LONG_PIECE) throw tooLong(path);
      lines.push(line);
      bytes += line.length;
      const isFull = lines.length >= MAX_ENTRIES || bytes >= LONG_PIECE;
      return isFull || (lines.length >= MIN_ENTRIES && (hash64(path)[1] & CUT_MASK) === 0) ? end() : undefined;
    },
    end,
  };
}

function tooLong(path: string): KilnError {
  const name = JSON.stringify(path.slice(-200));
  return new KilnError('PAYLOAD_TOO_LARGE', `The file ${name} is in too many pieces to be saved.`);
}

const base64 = (text: string): string => Buffer.from(text, 'latin1').toString('base64');
const latin1 = (text: string): string => Buffer.from(text, 'base64').toString('latin1');
