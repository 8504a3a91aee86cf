/** Saves of any entries, written as a host writes them, also such as no guest of the tests makes. */
import { createHash } from 'node:crypto';
import type { HeadSave, SaveTree } from '../../../contracts/store/save-documents.ts';
import { storeKeys } from '../../../domain/names.ts';
import type { FileEntry, FolderEntry, HardlinkEntry, SymlinkEntry } from '../../../domain/session/workspace.ts';
import { createSaveMerge, sentChunk } from '../../../host/saves/save-merge.ts';
import { chunkId, frameOf, PACK_MAGIC } from '../../../store/sessions/saves/packs.ts';
import { encodedTree } from '../../../store/sessions/saves/trees.ts';
import type { MemoryStore } from './memory-store.ts';
import { SESSION } from './saves-fixture.ts';

/** A file with its chunks; a number is a hole of so many bytes. */
export type NewFile = Omit<FileEntry, 'chunks' | 'size'> & { readonly data: readonly (Buffer | number)[] };
export type NewEntry = FolderEntry | NewFile | SymlinkEntry | HardlinkEntry;

export const SALT_HEX = '07'.repeat(32);
const salt = Buffer.from(SALT_HEX, 'hex');
const owned = { uid: 0, gid: 0, mtimeNs: '0' };

export const folder = (path: string, more: Partial<FolderEntry> = {}): FolderEntry => ({
  ...{ type: 'folder', path, mode: 0o755, ...owned },
  ...more,
});
export const file = (path: string, data: NewFile['data'] = [], more: Partial<NewFile> = {}): NewFile => ({
  ...{ type: 'file', path, mode: 0o644, ...owned, data },
  ...more,
});
export const symlink = (path: string, target: string): SymlinkEntry => ({ type: 'symlink', path, ...owned, target });
export const hardlink = (path: string, target: string): HardlinkEntry => ({ type: 'hardlink', path, target });

/** Writes the tree of a save and its one pack, of 16 MiB at most, into a store. @param entries in order, the workspace itself first @returns its place in a head */
export async function builtSave(
  store: Pick<MemoryStore, 'objects'>,
  entries: Iterable<NewEntry>,
  { turn = 1, n = 0 }: { readonly turn?: number; readonly n?: number } = {},
): Promise<HeadSave> {
  const saveId = `1-${turn}-${n}`;
  const name = `${saveId}-0`;
  const parts: Buffer[] = [PACK_MAGIC];
  let length = PACK_MAGIC.length;
  const pack = async (frame: Buffer) => {
    const place = { pack: name, offset: length, length: frame.length };
    parts.push(frame);
    length += frame.length;
    return place;
  };
  const pieces: SaveTree['pieces'] = [];
  const onPiece = async (piece: Buffer) => {
    const place = await pack(await frameOf(piece));
    pieces.push({ id: chunkId(salt, piece), bytes: piece.length, place });
  };
  const merge = createSaveMerge({ maxChunks: 1_000_000, pack, onPiece });
  const known = new Set<string>();
  const idOf = async (data: Buffer) => {
    const chunk = await sentChunk(salt, data);
    if (!known.has(chunk.id)) await merge.chunk(chunk);
    known.add(chunk.id);
    return chunk.id;
  };
  for (const entry of entries) {
    if (entry.type !== 'file') {
      await merge.entry(entry);
      continue;
    }
    const { data, ...rest } = entry;
    const chunks = [];
    for (const one of data) {
      chunks.push(typeof one === 'number' ? { id: '', bytes: one } : { id: await idOf(one), bytes: one.length });
    }
    await merge.entry({ ...rest, chunks, size: chunks.reduce((sum, { bytes }) => sum + bytes, 0) });
  }
  const { entries: count, bytes } = await merge.finish();
  const content = Buffer.concat(parts);
  store.objects.set(storeKeys.savePack(SESSION, name), content);
  const { data, sha256 } = encodedTree({
    ...{ schemaVersion: 1, session: SESSION, epoch: 1, turn, saveId, saltHex: SALT_HEX, consistency: 'quiesced' },
    ...{ at: '2026-01-01T00:00:00.000Z', entries: count, bytes, skipped: { count: 0, first: [] }, pieces },
    packs: [{ name, bytes: content.length, sha256: createHash('sha256').update(content).digest('hex') }],
  });
  store.objects.set(storeKeys.saveTree(SESSION, saveId), data);
  return { turn, saveId, treeSha256: sha256 };
}
