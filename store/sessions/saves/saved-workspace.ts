/** The workspace as one save has it, read from the store: no VM is needed. */
import { LRUCache } from 'lru-cache';
import type { HeadSave, SaveTree } from '../../../contracts/store/save-documents.ts';
import type { SessionName } from '../../../domain/names.ts';
import type { ObjectStore } from '../../object-store.ts';
import { type ChunkReader, createChunkReader } from './chunk-reader.ts';
import { entryOfLine, linesOf, type SavedEntry } from './manifest.ts';
import type { ManifestPieces } from './manifest-index.ts';
import { readTree } from './trees.ts';

export interface SavedWorkspace {
  readonly tree: SaveTree;
  readonly pieces: ManifestPieces;
  readonly chunks: ChunkReader;
}

export interface SavedWorkspaces {
  /** @throws SESSION_CORRUPT where it is gone or damaged; STORE_UNAVAILABLE */
  open(session: SessionName, save: HeadSave): Promise<SavedWorkspace>;
}

/**
 * Keeps trees and pieces of manifests that were read: neither ever changes under its hash.
 * @param maxCacheBytes of trees and pieces as they are in the store; in memory they take a few times as much
 */
export function createSavedWorkspaces(
  store: Pick<ObjectStore, 'readBlob' | 'readPart'>,
  { maxCacheBytes }: { readonly maxCacheBytes: number },
): SavedWorkspaces {
  const trees = new LRUCache<string, Read<SaveTree>>({ maxSize: maxCacheBytes, sizeCalculation });
  const pieces = new LRUCache<string, Read<readonly SavedEntry[]>>({ maxSize: maxCacheBytes, sizeCalculation });
  return {
    async open(session, { saveId, treeSha256: sha256 }) {
      const { value: tree } = await kept(trees, sha256, async () => {
        const found = await readTree(store, { session, saveId, sha256 });
        return { value: found.tree, bytes: found.data.length };
      });
      const chunks = createChunkReader(store, { ...tree, session });
      const read = async (n: number): Promise<readonly SavedEntry[]> => {
        const piece = tree.pieces[n];
        if (piece === undefined) return [];
        const { value } = await kept(pieces, piece.id, async () => {
          const data = await chunks.readOne(piece);
          return { value: linesOf(data).map(entryOfLine), bytes: data.length };
        });
        return value;
      };
      return { tree, pieces: { count: tree.pieces.length, read }, chunks };
    },
  };
}

interface Read<T> {
  readonly value: T;
  readonly bytes: number;
}

const sizeCalculation = ({ bytes }: Read<unknown>) => bytes;

/** A tree or piece larger than the cache is read each time. */
async function kept<T>(cache: LRUCache<string, Read<T>>, key: string, read: () => Promise<Read<T>>): Promise<Read<T>> {
  const known = cache.get(key);
  if (known !== undefined) return known;
  const found = await read();
  cache.set(key, found);
  return found;
}
