/** Trees: one document for each save, known by the SHA-256 of its bytes. */
import { createHash } from 'node:crypto';
import { MAX_TREE_BYTES, type SaveTree, saveTreeSchema } from '../../../contracts/store/save-documents.ts';
import { isKilnError } from '../../../domain/failures.ts';
import { jsonOrUndefined } from '../../../domain/json-or-undefined.ts';
import { type SessionName, sessionId, storeKeys } from '../../../domain/names.ts';
import type { ObjectStore } from '../../object-store.ts';
import { saveCorrupt } from './packs.ts';

/** The tree that a head or a spool names. */
export interface TreeRef {
  readonly session: SessionName;
  readonly saveId: string;
  readonly sha256: string;
}

/** @returns the bytes of a tree, and their SHA-256 */
export function encodedTree(tree: SaveTree): { readonly data: Buffer; readonly sha256: string } {
  const data = Buffer.from(`${JSON.stringify(tree)}\n`);
  return { data, sha256: createHash('sha256').update(data).digest('hex') };
}

/** @throws SESSION_CORRUPT where it is not the tree that was asked for */
export function decodedTree(data: Buffer, { session, saveId, sha256 }: TreeRef): SaveTree {
  if (createHash('sha256').update(data).digest('hex') !== sha256) throw saveCorrupt(`tree ${saveId} has other bytes`);
  const parsed = saveTreeSchema.safeParse(jsonOrUndefined(data.toString()));
  if (!parsed.success) throw saveCorrupt(`tree ${saveId} is not of the expected form`, parsed.error);
  const tree = parsed.data;
  if (tree.saveId !== saveId || sessionId(tree.session) !== sessionId(session)) {
    throw saveCorrupt(`tree ${saveId} is of ${sessionId(tree.session)}, save ${tree.saveId}`);
  }
  const packs = new Set(tree.packs.map(({ name }) => name));
  if (!tree.pieces.every(({ place }) => packs.has(place.pack))) {
    throw saveCorrupt(`tree ${saveId} needs a pack that it does not name`);
  }
  return tree;
}

/** Writes a tree; the same again changes nothing. @throws STORE_UNAVAILABLE */
export async function putTree(store: Pick<ObjectStore, 'putBlob'>, ref: TreeRef, data: Buffer): Promise<void> {
  await store.putBlob(storeKeys.saveTree(ref.session, ref.saveId), { data }, { expectedSha256: ref.sha256 });
}

/** @returns a tree with its bytes. @throws STORE_UNAVAILABLE; SESSION_CORRUPT where it is gone or damaged; the reason of the signal */
export async function readTree(
  store: Pick<ObjectStore, 'readBlob'>,
  ref: TreeRef,
  signal?: AbortSignal,
): Promise<{ readonly tree: SaveTree; readonly data: Buffer }> {
  const data = await store
    .readBlob(storeKeys.saveTree(ref.session, ref.saveId), MAX_TREE_BYTES, signal)
    .catch((error: unknown) => {
      signal?.throwIfAborted();
      if (!isKilnError(error, 'NOT_FOUND', 'IMAGE_CORRUPT', 'PAYLOAD_TOO_LARGE')) throw error;
      throw saveCorrupt(`tree ${ref.saveId} is gone from the store, or damaged there`, error);
    });
  return { tree: decodedTree(data, ref), data };
}
