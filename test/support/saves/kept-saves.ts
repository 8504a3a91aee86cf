/** What a store holds of the saves of a session, read beside all that is tested. */
import { createHash } from 'node:crypto';
import { canonicalHash } from '../../../contracts/canonical-json.ts';
import type { HeadSave, SaveHead } from '../../../contracts/store/save-documents.ts';
import { storeKeys } from '../../../domain/names.ts';
import { createSaveHeads } from '../../../store/sessions/saves/heads.ts';
import { readTree } from '../../../store/sessions/saves/trees.ts';
import { createMemoryStore, type MemoryStore } from './memory-store.ts';
import { createSavesHost, NEVER, placed, SESSION } from './saves-fixture.ts';

/** @returns the head, however calls of the store are disturbed */
export async function headIn(store: MemoryStore): Promise<SaveHead> {
  const head = await createSaveHeads(copyOf(store)).read(SESSION);
  if (head === undefined) throw new Error('there is no head');
  return head;
}

/** Writes a head as nobody does, with the right check. */
export async function putHead(store: MemoryStore, head: SaveHead): Promise<void> {
  const fields = { schemaVersion: 1, ...head };
  await store.writeDocument(storeKeys.saveHead(head.session), { ...fields, check: await canonicalHash(fields) });
}

/** @returns the names of the packs of a save, all of which the store has, byte for byte */
export async function packsOf(store: MemoryStore, { saveId, treeSha256 }: HeadSave): Promise<string[]> {
  const { tree } = await readTree(copyOf(store), { session: SESSION, saveId, sha256: treeSha256 });
  for (const { name, sha256 } of tree.packs) {
    const data = store.objects.get(storeKeys.savePack(SESSION, name));
    if (data === undefined) throw new Error(`pack ${name} of save ${saveId} is gone`);
    if (createHash('sha256').update(data).digest('hex') !== sha256) throw new Error(`pack ${name} has other bytes`);
  }
  return tree.packs.map(({ name }) => name);
}

/** @returns the names of all packs that the store has */
export function storedPacks(store: MemoryStore): string[] {
  const prefix = storeKeys.savePack(SESSION, '');
  return [...store.objects.keys()].flatMap((key) => (key.startsWith(prefix) ? [key.slice(prefix.length)] : []));
}

/** @returns what a new host makes of a save, whether or not it is the newest */
export async function restoredWalk(store: MemoryStore, save: HeadSave): Promise<string[]> {
  const copy = copyOf(store);
  const { saltHex, epoch } = await headIn(store);
  copy.objects.delete(storeKeys.saveHead(SESSION));
  const heads = createSaveHeads(copy);
  await heads.claim(SESSION, Number(save.saveId.split('-')[0]), saltHex);
  const { turn, saveId, treeSha256 } = save;
  await heads.advance(SESSION, { save: { turn, saveId, treeSha256 }, saltHex, packs: [], nowMs: 0 });
  const host = await createSavesHost(copy);
  try {
    const of = placed(epoch + 1);
    await host.saves.restore(of, NEVER);
    return host.workspaces.of(of.vmId).walk();
  } finally {
    await host.remove();
  }
}

function copyOf(store: MemoryStore): MemoryStore {
  const copy = createMemoryStore();
  for (const [key, data] of store.objects) copy.objects.set(key, data);
  return copy;
}
