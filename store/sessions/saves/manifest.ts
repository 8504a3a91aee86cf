/**
 * The manifest of a save: a line of JSON for each entry, in the order of their paths, cut into pieces. Where it is cut
 * depends on the paths around, so a change in one place leaves the pieces of all others as they were.
 */
import { MAX_PIECE_BYTES, type ManifestChunk, manifestChunkSchema } from '../../../contracts/store/save-documents.ts';
import { entryToJson, workspaceEntrySchema } from '../../../contracts/workspace-entries.ts';
import { KilnError } from '../../../domain/failures.ts';
import { hash64 } from '../../../domain/hash64.ts';
import { jsonOrUndefined } from '../../../domain/json-or-undefined.ts';
import type { WorkspaceEntry } from '../../../domain/session/workspace.ts';
import { type PackedChunk, saveCorrupt } from './packs.ts';

export type SavedEntry = WorkspaceEntry<PackedChunk>;

const savedEntrySchema = workspaceEntrySchema(
  manifestChunkSchema.transform(
    ([id, bytes, pack, offset, length]): PackedChunk =>
      pack === undefined || offset === undefined || length === undefined
        ? { id, bytes }
        : { id, bytes, place: { pack, offset, length } },
  ),
);

/** A piece has at least so many entries, unless they are long, and at most the other number; in between, chance decides. */
const MIN_ENTRIES = 64;
const MAX_ENTRIES = 4096;
/** A path with a hash that ends in these bits 0 ends a piece. */
const CUT_MASK = 0xff;
/** A piece that has so many bytes ends. */
const LONG_PIECE = 256 * 1024;

/** @returns an entry as a line, with its end */
export function manifestLine(entry: SavedEntry): string {
  return `${JSON.stringify(entryToJson(entry, chunkJson))}\n`;
}

const chunkJson = ({ id, bytes, place }: PackedChunk): ManifestChunk =>
  place === undefined ? ['', bytes] : [id, bytes, place.pack, place.offset, place.length];

/** @returns the entry of a line. @throws SESSION_CORRUPT */
export function entryOfLine(line: string): SavedEntry {
  const parsed = savedEntrySchema.safeParse(jsonOrUndefined(line));
  if (parsed.success) return parsed.data;
  throw saveCorrupt('a line of its manifest is no entry', parsed.error);
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
