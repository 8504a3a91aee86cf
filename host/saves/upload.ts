/**
 * Brings the newest save of a spool into the store: its packs, its tree, then the head that names it. In between goes
 * what older saves have left there.
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { PackInfo, SaveHead, SaveTree } from '../../contracts/store/save-documents.ts';
import { defined } from '../../domain/defined.ts';
import { isKilnError, KilnError } from '../../domain/failures.ts';
import { storeKeys } from '../../domain/names.ts';
import { compareSaves, judgeSave } from '../../domain/session/head-rules.ts';
import { isErrno } from '../../linux/errno.ts';
import type { StoredSave } from '../../ports/saves.ts';
import type { ObjectStore } from '../../store/object-store.ts';
import {
  assertNothingLost,
  markOf,
  type NextSave,
  type SaveHeads,
  stateOf,
  wasDeleted,
} from '../../store/sessions/saves/heads.ts';
import { saveCorrupt, undefinedIfCorrupt } from '../../store/sessions/saves/packs.ts';
import { putTree } from '../../store/sessions/saves/trees.ts';
import { deleteCondemned, type GarbageContext, packsBefore } from './garbage.ts';
import { type PackCopies, spooledPackPath } from './pack-files.ts';
import type { Spool, SpooledFiles } from './spool.ts';

export interface UploadContext extends GarbageContext {
  readonly epoch: number;
  readonly store: Pick<ObjectStore, 'putBlob' | 'readBlob' | 'delete'>;
  readonly heads: SaveHeads;
  readonly copies: (packs: readonly PackInfo[]) => PackCopies;
  readonly signal: AbortSignal;
}

/**
 * May be stopped between any two steps and begun again.
 * @returns what the head names then
 */
export async function uploadNewest(context: UploadContext): Promise<StoredSave | undefined> {
  const { spool } = context;
  const newest = (await spool.wholeSaves()).at(-1);
  const head = await ownHead(context, newest);
  if (newest === undefined || newest.place.epoch !== context.epoch) return named(head);
  const { tree, data } = await spool.tree(newest).catch((error: unknown) => unlessDamaged(context, newest, error));
  const isNamed = head?.save?.saveId === tree.saveId && judgeSave(stateOf(head), newest.place) === 'done';
  const sentBytes = await send(context, { head, newest, tree, data, isNamed });
  await spool.noteUploaded(tree.saveId);
  await tidy(context, newest, tree);
  const { turn, n } = newest.place;
  return { mark: { turn, n }, sentBytes };
}

interface ToSend {
  readonly head: SaveHead | undefined;
  readonly newest: SpooledFiles;
  readonly tree: SaveTree;
  readonly data: Buffer;
  /** Whether the head names it already. */
  readonly isNamed: boolean;
}

/** @returns bytes sent */
async function send(context: UploadContext, { head, newest, tree, data, isNamed }: ToSend): Promise<number> {
  const { session, store, heads, signal, clock } = context;
  const save = { turn: tree.turn, saveId: tree.saveId, treeSha256: newest.note.treeSha256 };
  const next = { save, saltHex: tree.saltHex, packs: tree.packs.map(({ name }) => name), nowMs: clock() };
  if (isNamed) {
    await heads.advance(session, next);
    return 0;
  }
  const before = await packsBefore(context, head);
  const known = { ...next, ...defined({ before }) };
  await refuseLost(context, { head, newest }, known);
  const packs = await putPacks(context, newest, tree);
  signal.throwIfAborted();
  await putTree(store, { session, saveId: save.saveId, sha256: save.treeSha256 }, data);
  const deleted = head && (await deleteCondemned(context, head));
  await heads.advance(session, { ...known, ...defined({ deleted }), nowMs: clock() });
  return packs + data.length;
}

/** A save that needs what may be gone is damaged: whoever made it so, the next one is whole. */
async function refuseLost(
  context: UploadContext,
  { head, newest }: Pick<ToSend, 'head' | 'newest'>,
  next: Pick<NextSave, 'packs' | 'before'>,
): Promise<void> {
  try {
    assertNothingLost(head, next);
  } catch (error) {
    await unlessDamaged(context, newest, error);
  }
}

/** Reads the head, and claims it where it is not ours: before anything is sent, since of a late placement nobody needs it. */
async function ownHead(context: UploadContext, newest: SpooledFiles | undefined): Promise<SaveHead | undefined> {
  const { session, epoch, spool, heads } = context;
  const placement = await spool.placement();
  const head = await heads.read(session);
  if (head === undefined && placement?.hasClaimed === true) throw wasDeleted(session);
  if (head === undefined && newest === undefined) return undefined;
  if (head?.epoch === epoch) return head;
  const saltHex = placement?.saltHex ?? head?.saltHex;
  if (saltHex === undefined) throw new KilnError('INTERNAL', `${spool.directory} has saves, and no salt.`);
  const claimed = await heads.claim(session, epoch, head === undefined ? saltHex : undefined);
  await spool.notePlacement({ saltHex, hasClaimed: true });
  return claimed;
}

/** @returns bytes sent */
async function putPacks(context: UploadContext, newest: SpooledFiles, tree: SaveTree): Promise<number> {
  const { session, spool, store, signal } = context;
  const known = await uploadedPacks(spool);
  let sent = 0;
  for (const pack of tree.packs) {
    if (known.has(pack.name)) continue;
    signal.throwIfAborted();
    const path = spooledPackPath(spool, pack.name);
    const key = storeKeys.savePack(session, pack.name);
    await store.putBlob(key, { path }, { expectedSha256: pack.sha256 }).catch((error: unknown) => {
      const isDamaged = isKilnError(error, 'IMAGE_CORRUPT') || isErrno(error, 'ENOENT');
      return unlessDamaged(context, newest, isDamaged ? saveCorrupt(`pack ${pack.name} on this host`, error) : error);
    });
    sent += pack.bytes;
  }
  return sent;
}

/** What a save that the store has whole needs is there. */
async function uploadedPacks(spool: Spool): Promise<Set<string>> {
  const names = new Set<string>();
  for (const save of await spool.wholeSaves()) {
    if (!(await spool.isUploaded(save.note.saveId))) continue;
    const found = await spool.tree(save).catch(undefinedIfCorrupt);
    for (const { name } of found?.tree.packs ?? []) names.add(name);
  }
  return names;
}

/** A save that is damaged in the spool is given up: the workspace is still there, and the next save is a whole one. */
async function unlessDamaged({ spool }: UploadContext, save: SpooledFiles, error: unknown): Promise<never> {
  if (isKilnError(error, 'SESSION_CORRUPT')) await spool.discard(save.note.saveId);
  throw error;
}

/**
 * The packs of a save that the store has go into the cache, for a restore on this host. Saves before it go: what only
 * they need, nobody will.
 */
async function tidy({ spool, copies }: UploadContext, uploaded: SpooledFiles, tree: SaveTree): Promise<void> {
  const cache = copies(tree.packs);
  const byName = new Map(tree.packs.map((pack) => [pack.name, pack]));
  const saves = (await spool.wholeSaves()).filter(({ place }) => compareSaves(place, uploaded.place) <= 0);
  const moved: [PackInfo, string][] = [];
  for (const { directory } of saves) {
    for (const name of await readdir(directory)) {
      const pack = byName.get(name);
      if (pack !== undefined) moved.push([pack, join(directory, name)]);
    }
  }
  if (moved.length > 0) await cache.keep(moved);
  for (const { note } of saves) if (note.saveId !== uploaded.note.saveId) await spool.remove(note.saveId);
}

const named = (head: SaveHead | undefined): StoredSave | undefined => {
  const mark = head && markOf(head);
  return mark && { mark, sentBytes: 0 };
};
