/** What of a session's saves in the store nobody needs any more: found by its uploader, and deleted later. */
import { sideBySide } from '../../concurrency/side-by-side.ts';
import type { SaveHead } from '../../contracts/store/save-documents.ts';
import { isKilnError } from '../../domain/failures.ts';
import { type SessionName, sessionWorkflowId, storeKeys } from '../../domain/names.ts';
import { type DueGarbage, dueGarbage, type SavePacks } from '../../domain/session/save-garbage.ts';
import type { ObjectStore } from '../../store/object-store.ts';
import { undefinedIfCorrupt } from '../../store/sessions/saves/packs.ts';
import { readTree } from '../../store/sessions/saves/trees.ts';
import type { HostLogger } from '../host-logger.ts';
import type { Spool } from './spool.ts';

export interface GarbageContext {
  readonly session: SessionName;
  readonly spool: Spool;
  readonly store: Pick<ObjectStore, 'readBlob' | 'delete'>;
  /** From when a head has dropped a save until what only it needs is deleted, ms: so long may a reader of it take. */
  readonly condemnedMs: number;
  /** ms since 1970. */
  readonly clock: () => number;
  readonly logger: HostLogger;
}

/** Objects that one upload deletes; the others wait for the next. */
const MOST_DELETED = 500;
/** Deletes on their way at a time. */
const AT_ONCE = 8;

/**
 * What the save that a head names needs: the spool has its tree, unless it is of another placement.
 * @returns undefined where it names none, or its tree is damaged. @throws STORE_UNAVAILABLE
 */
export async function packsBefore(
  { session, spool, store }: GarbageContext,
  head: SaveHead | undefined,
): Promise<SavePacks | undefined> {
  if (head?.save === undefined) return undefined;
  const { saveId, treeSha256 } = head.save;
  const files = (await spool.wholeSaves()).find(({ note }) => note.saveId === saveId && note.treeSha256 === treeSha256);
  const found =
    (files && (await spool.tree(files).catch(undefinedIfCorrupt))) ??
    (await readTree(store, { session, saveId, sha256: treeSha256 }).catch(undefinedIfCorrupt));
  return found && { saveId, packs: found.tree.packs.map(({ name }) => name) };
}

/**
 * Deletes what was condemned long enough ago: packs, then the trees that named them. Nobody needs it, so nothing is
 * lost where the head is another placement's by now. A failure is no failure of the upload: the next one deletes it.
 * @returns what is deleted
 */
export async function deleteCondemned(
  { session, store, condemnedMs, clock, logger }: GarbageContext,
  { condemned = [] }: SaveHead,
): Promise<DueGarbage | undefined> {
  const due = dueGarbage(condemned, { nowMs: clock(), condemnedMs, most: MOST_DELETED });
  const [packs, trees] = [
    due.packs.map((name) => storeKeys.savePack(session, name)),
    due.saveIds.map((saveId) => storeKeys.saveTree(session, saveId)),
  ];
  try {
    for (const keys of [packs, trees]) await sideBySide(keys, AT_ONCE, (key) => store.delete(key));
    return due;
  } catch (error) {
    if (!isKilnError(error)) throw error;
    const what = { session: sessionWorkflowId(session), reason: error.message };
    logger.warn(what, 'what older saves needed is deleted later');
    return undefined;
  }
}
