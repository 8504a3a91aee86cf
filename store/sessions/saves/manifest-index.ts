/** Finds entries of a saved workspace by their paths: only the pieces of its manifest that are looked into are read. */
import type { SavedEntry } from './manifest.ts';

/** The pieces of a manifest, all in the order of their paths, for one reader. */
export interface ManifestPieces {
  readonly count: number;
  /** @returns the path that a piece begins with */
  firstPath(piece: number): Promise<string>;
  /** @returns its entries; at least one */
  read(piece: number): Promise<readonly SavedEntry[]>;
}

/** @returns undefined where no entry has this path. @throws what the pieces throw */
export async function findEntry(pieces: ManifestPieces, path: string): Promise<SavedEntry | undefined> {
  for await (const entry of entriesFrom(pieces, path)) return entry.path === path ? entry : undefined;
  return undefined;
}

/** Finds many entries, piece after piece; each path once, in their order. @throws what the pieces throw */
export async function* findEntries(
  pieces: ManifestPieces,
  paths: Iterable<string>,
): AsyncGenerator<{ readonly path: string; readonly entry: SavedEntry | undefined }, undefined> {
  let entries: readonly SavedEntry[] = [];
  for (const path of [...new Set(paths)].sort()) {
    const isBehind = (entries.at(-1)?.path ?? '') < path;
    if (entries.length === 0 || isBehind) entries = await pieces.read(await pieceOf(pieces, path));
    const entry = entries[firstFrom(entries, path)];
    yield { path, entry: entry?.path === path ? entry : undefined };
  }
  return undefined;
}

/** The entries from a path on, which itself need not be there. @throws what the pieces throw */
export async function* entriesFrom(pieces: ManifestPieces, path: string): AsyncGenerator<SavedEntry, undefined> {
  const first = await pieceOf(pieces, path);
  for (let piece = first; piece < pieces.count; piece++) {
    const entries = await pieces.read(piece);
    yield* piece === first ? entries.slice(firstFrom(entries, path)) : entries;
  }
}

/** @returns the last piece that begins at this path or before it; the first where none does */
async function pieceOf(pieces: ManifestPieces, path: string): Promise<number> {
  let low = 0;
  let high = pieces.count - 1;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if ((await pieces.firstPath(middle)) <= path) low = middle;
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
