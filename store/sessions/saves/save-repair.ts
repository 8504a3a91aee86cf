/**
 * Deletes what no save of a session needs, and its uploaders have missed: what a killed upload or a late one has left,
 * what a head could not hold, what was condemned when the session went to sleep. Only this lists.
 */
import { sideBySide } from '../../../concurrency/side-by-side.ts';
import type { HeadSave, SaveHead } from '../../../contracts/store/save-documents.ts';
import { type SessionName, storeKeys } from '../../../domain/names.ts';
import { isPastPlace, savePlaceOf } from '../../../domain/session/head-rules.ts';
import { garbagePacks, saveOfPack } from '../../../domain/session/save-garbage.ts';
import type { ListedObject, ObjectStore } from '../../object-store.ts';
import { createSaveHeads, stateOf } from './heads.ts';
import { readTree } from './trees.ts';

export type RepairStore = Pick<
  ObjectStore,
  'readDocument' | 'writeDocument' | 'readBlob' | 'list' | 'listAll' | 'delete'
>;

export interface RepairOptions {
  /** What was written earlier, and nothing names, is garbage: by the clock of the store, ms since 1970. */
  readonly writtenBeforeMs: number;
  /** Called again and again. @throws to end early: what is deleted stays so */
  readonly onProgress: () => void;
}

/** Deletes on their way at a time. */
const AT_ONCE = 8;

/**
 * May be repeated, and interrupted anywhere. What a placement uploads meanwhile is never deleted: it is of a later place
 * than what the head names.
 * @returns how many objects were deleted
 * @throws STORE_UNAVAILABLE; SESSION_CORRUPT where head or trees cannot be read: then nothing is deleted
 */
export async function repairSession(store: RepairStore, session: SessionName, options: RepairOptions): Promise<number> {
  // The head is read before anything is listed: what is uploaded later is of a later place.
  const head = await createSaveHeads(store).read(session);
  if (head === undefined) return 0;
  const known = await withoutCondemned(store, session, head, options);
  const garbage = await garbageIn(store, session, known, options);
  await sideBySide(garbage, AT_ONCE, async (key) => {
    options.onProgress();
    await store.delete(key);
  });
  return garbage.length;
}

/** A session that has saved nothing for long leaves it to the repair what it has condemned. @returns its head then */
async function withoutCondemned(
  store: RepairStore,
  session: SessionName,
  head: SaveHead,
  { writtenBeforeMs }: RepairOptions,
): Promise<SaveHead> {
  if (head.condemned === undefined) return head;
  const { objects } = await store.list(storeKeys.saveHead(session));
  const written = objects.find(({ key }) => key === storeKeys.saveHead(session))?.modifiedMs;
  if (written === undefined || written >= writtenBeforeMs) return head;
  return (await createSaveHeads(store).forgetCondemned(session, head)) ?? head;
}

/** @returns keys: packs, then trees */
async function garbageIn(
  store: RepairStore,
  session: SessionName,
  head: SaveHead,
  options: RepairOptions,
): Promise<string[]> {
  const old = async (prefix: string, saveIdOf: (name: string) => string) => {
    const names: string[] = [];
    for await (const object of store.listAll(prefix)) {
      options.onProgress();
      const name = object.key.slice(prefix.length);
      if (isOld(object, saveIdOf(name), head, options)) names.push(name);
    }
    return names;
  };
  const { kept, condemned = [] } = head;
  const packs = await old(storeKeys.savePacks(session), saveOfPack);
  const trees = await old(storeKeys.saveTrees(session), (name) => name.replace(/\.json$/, ''));
  const named = new Set([...kept, ...condemned].map(({ saveId }) => `${saveId}.json`));
  const needless = await withoutNeeded(store, session, head, packs, options);
  return [
    ...needless.map((name) => storeKeys.savePacks(session) + name),
    ...trees.filter((name) => !named.has(name)).map((name) => storeKeys.saveTrees(session) + name),
  ];
}

function isOld({ modifiedMs }: ListedObject, saveId: string, head: SaveHead, { writtenBeforeMs }: RepairOptions) {
  const place = savePlaceOf(saveId);
  return place !== undefined && modifiedMs < writtenBeforeMs && isPastPlace(stateOf(head), place);
}

/** The trees of all kept saves are only read where the newest, and what the head says, do not account for all packs. */
async function withoutNeeded(
  store: RepairStore,
  session: SessionName,
  { save, kept, condemned = [] }: SaveHead,
  packs: readonly string[],
  { onProgress }: RepairOptions,
): Promise<string[]> {
  const needed = garbagePacks({ kept, condemned });
  let left = packs.filter((name) => !needed.has(name));
  for (const each of newestFirst(save, kept)) {
    if (left.length === 0) break;
    onProgress();
    const { saveId, treeSha256: sha256 } = each;
    const { tree } = await readTree(store, { session, saveId, sha256 });
    for (const { name } of tree.packs) needed.add(name);
    left = left.filter((name) => !needed.has(name));
  }
  return left;
}

function newestFirst(save: HeadSave | undefined, kept: readonly HeadSave[]): HeadSave[] {
  const others = kept.filter(({ saveId }) => saveId !== save?.saveId).toReversed();
  return save === undefined ? others : [save, ...others];
}
