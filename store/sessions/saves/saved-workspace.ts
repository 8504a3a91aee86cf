/** The workspace as one save has it, read from the store: no VM is needed. */
import { LRUCache } from 'lru-cache';
import type { HeadSave, SaveTree } from '../../../contracts/store/save-documents.ts';
import type { SessionName } from '../../../domain/names.ts';
import type { ObjectStore } from '../../object-store.ts';
import { type ChunkReader, createChunkReader } from './chunk-reader.ts';
import { entryOfLine, linesOf, type SavedEntry } from './manifest.ts';
import type { ManifestPieces } from './manifest-index.ts';
import { saveCorrupt } from './packs.ts';
import { readTree } from './trees.ts';

export interface SavedWorkspace {
  readonly tree: SaveTree;
  /** SHA-256 of the tree: no two saves of any sessions have the same. */
  readonly treeSha256: string;
  readonly chunks: ChunkReader;
  /** @returns the manifest for one reader. Its reads @throws SESSION_CORRUPT, STORE_UNAVAILABLE, what the reader's do */
  pieces(reader: PieceReader): ManifestPieces;
}

export interface PieceReader {
  readonly signal: AbortSignal;
  /** Called before a piece is fetched from the store; what it throws, the reader gets. */
  readonly onFetch?: () => void;
}

export interface SavedWorkspaces {
  /** @throws SESSION_CORRUPT where it is gone or damaged; STORE_UNAVAILABLE; the reason of the signal */
  open(session: SessionName, save: HeadSave, signal: AbortSignal): Promise<SavedWorkspace>;
}

/**
 * Keeps trees and pieces of manifests that were read: neither ever changes under its hash.
 * @param maxCacheBytes of trees, and as much of pieces: what they take in memory, roughly
 */
export function createSavedWorkspaces(
  store: Pick<ObjectStore, 'readBlob' | 'readPart'>,
  { maxCacheBytes }: { readonly maxCacheBytes: number },
): SavedWorkspaces {
  const trees = new LRUCache<string, Read<SaveTree>>({ maxSize: maxCacheBytes, sizeCalculation });
  const pieces = new LRUCache<string, Read<readonly SavedEntry[]>>({ maxSize: maxCacheBytes, sizeCalculation });
  return {
    async open(session, { saveId, treeSha256 }, signal) {
      const { value: tree } = await kept(trees, treeSha256, async () => {
        const found = await readTree(store, { session, saveId, sha256: treeSha256 }, signal);
        return { value: found.tree, weight: weightOfTree(found.tree, found.data.length) };
      });
      const chunks = createChunkReader(store, { ...tree, session });
      const read = async (n: number, { signal: reading, onFetch }: PieceReader): Promise<readonly SavedEntry[]> => {
        reading.throwIfAborted();
        const piece = tree.pieces[n];
        if (piece === undefined) throw saveCorrupt(`its manifest has no piece ${n}`);
        const { value } = await kept(pieces, piece.id, async () => {
          onFetch?.();
          const data = await chunks.readOne(piece, reading);
          const entries = linesOf(data).map(entryOfLine);
          return { value: entries, weight: weightOfEntries(entries, data.length) };
        });
        return value;
      };
      return { tree, treeSha256, chunks, pieces: (reader) => piecesFor(tree.pieces.length, (n) => read(n, reader)) };
    },
  };
}

/** Remembers the beginnings of pieces: a search comes by the same ones again and again. */
function piecesFor(count: number, readPiece: (n: number) => Promise<readonly SavedEntry[]>): ManifestPieces {
  const firsts = new Map<number, string>();
  const read = async (n: number) => {
    const entries = await readPiece(n);
    const [first] = entries;
    if (first === undefined) throw saveCorrupt('a piece of its manifest is empty');
    firsts.set(n, first.path);
    return { entries, first: first.path };
  };
  return {
    count,
    firstPath: async (n) => firsts.get(n) ?? (await read(n)).first,
    read: async (n) => (await read(n)).entries,
  };
}

interface Read<T> {
  readonly value: T;
  readonly weight: number;
}

const sizeCalculation = ({ weight }: Read<unknown>) => weight;

/** What objects take in memory beside their text, bytes, rounded up: with Node 24, a hole takes 34, others hardly any. */
const ENTRY_WEIGHT = 200;
const CHUNK_WEIGHT = 100;

function weightOfTree({ pieces, packs }: SaveTree, bytes: number): number {
  return bytes + (pieces.length + packs.length) * CHUNK_WEIGHT;
}

function weightOfEntries(entries: readonly SavedEntry[], bytes: number): number {
  let chunks = 0;
  for (const entry of entries) if (entry.type === 'file') chunks += entry.chunks.length;
  return bytes + entries.length * ENTRY_WEIGHT + chunks * CHUNK_WEIGHT;
}

/** A tree or piece larger than the cache is read each time. */
async function kept<T>(cache: LRUCache<string, Read<T>>, key: string, read: () => Promise<Read<T>>): Promise<Read<T>> {
  const known = cache.get(key);
  if (known !== undefined) return known;
  const found = await read();
  cache.set(key, found);
  return found;
}
