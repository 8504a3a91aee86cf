/** Finds entries of a saved workspace by their paths: only the pieces of its manifest that are looked into are read. */
import type { SavedEntry } from './manifest.ts';
import { saveCorrupt } from './packs.ts';

/** The pieces of a manifest, each with at least one entry, all in the order of their paths. */
export interface ManifestPieces {
  readonly count: number;
  read(piece: number): Promise<readonly SavedEntry[]>;
}

/** @returns undefined where no entry has this path. @throws SESSION_CORRUPT, STORE_UNAVAILABLE */
export async function findEntry(pieces: ManifestPieces, path: string): Promise<SavedEntry | undefined> {
  for await (const entry of entriesFrom(pieces, path)) return entry.path === path ? entry : undefined;
  return undefined;
}

/** The entries from a path on, which itself need not be there. @throws SESSION_CORRUPT, STORE_UNAVAILABLE */
export async function* entriesFrom(pieces: ManifestPieces, path: string): AsyncGenerator<SavedEntry, undefined> {
  const first = await pieceOf(pieces, path);
  for (let piece = first; piece < pieces.count; piece++) {
    const entries = await pieces.read(piece);
    yield* piece === first ? entries.slice(firstFrom(entries, path)) : entries;
  }
}

/** @returns the last piece that begins at this path or before it; the first where none does */
async function pieceOf({ count, read }: ManifestPieces, path: string): Promise<number> {
  let low = 0;
  let high = count - 1;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    const [entry] = await read(middle);
    if (entry === undefined) throw saveCorrupt('a piece of its manifest is empty');
    if (entry.path <= path) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** @returns the index of the first entry at this path or behind it */
function firstFrom(entries: readonly SavedEntry[], path: string): number {
  let low = 0;
  let high = entries.length;
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const isBefore = (entries[middle]?.path ?? '') < path;
    if (isBefore) low = middle + 1;
    else high = middle;
  }
  return low;
}
