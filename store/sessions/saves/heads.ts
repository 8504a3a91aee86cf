/** Heads: which save of a session is the newest, and which placement may write the next. */
import { isDeepStrictEqual } from 'node:util';
import type { z } from 'zod';
import { canonicalHash } from '../../../contracts/canonical-json.ts';
import {
  type HeadSave,
  KEPT_SAVES,
  MAX_CONDEMNED,
  MAX_GARBAGE_PACKS,
  type SaveHead,
  saveHeadSchema,
} from '../../../contracts/store/save-documents.ts';
import { defined } from '../../../domain/defined.ts';
import { isKilnError, KilnError } from '../../../domain/failures.ts';
import { type SessionName, sessionId, sessionWorkflowId, storeKeys } from '../../../domain/names.ts';
import { type HeadState, judgeClaim, judgeSave, savePlaceOf } from '../../../domain/session/head-rules.ts';
import type { SaveMark } from '../../../domain/session/save-book.ts';
import {
  type DueGarbage,
  garbagePacks,
  goneSince,
  keepSave,
  lostPack,
  restamped,
  type SaveGarbage,
  type SavePacks,
  withoutDeleted,
} from '../../../domain/session/save-garbage.ts';
import type { SessionHeads } from '../../../ports/saves.ts';
import type { ObjectStore } from '../../object-store.ts';
import { saveCorrupt } from './packs.ts';

export interface SaveHeads {
  /** @returns undefined where there is none. @throws STORE_UNAVAILABLE, SESSION_CORRUPT */
  read(session: SessionName): Promise<SaveHead | undefined>;
  /**
   * Makes the head this placement's; what it names stays.
   * @param newSaltHex of a head that is made; absent where there was one already: it was deleted then
   * @throws CONFLICT where a later placement has it, or it was deleted; STORE_UNAVAILABLE, SESSION_CORRUPT
   */
  claim(session: SessionName, epoch: number, newSaltHex: string | undefined): Promise<SaveHead>;
  /**
   * Makes the head name a save, which the store has whole. What this makes garbage is noted in the same write.
   * @throws CONFLICT where the head is another placement's or names a later save; STORE_UNAVAILABLE, SESSION_CORRUPT
   */
  advance(session: SessionName, next: NextSave): Promise<SaveHead>;
  /**
   * Takes out of a head what it has condemned, for somebody who deletes it then.
   * @returns the head without it; undefined where it is not `known` any more, and stays as it is
   * @throws STORE_UNAVAILABLE, SESSION_CORRUPT
   */
  forgetCondemned(session: SessionName, known: SaveHead): Promise<SaveHead | undefined>;
}

/** A save that the store has whole, and what is known of those before it. */
export interface NextSave {
  readonly save: HeadSave;
  readonly saltHex: string;
  /** Names of the packs that it needs. */
  readonly packs: readonly string[];
  /** What the save that the head names needs; absent where nobody knows. */
  readonly before?: SavePacks;
  /** What of the condemned is deleted. */
  readonly deleted?: DueGarbage;
  /** By the clock of this host, ms since 1970. */
  readonly nowMs: number;
}

/** Writers of one head are few: a placement, and those before it that do not know of their end. */
const MAX_TRIES = 20;

export function createSaveHeads(store: Pick<ObjectStore, 'readDocument' | 'writeDocument'>): SaveHeads {
  const find = async (session: SessionName) => {
    const found = await store.readDocument(storeKeys.saveHead(session), saveHeadSchema).catch((error: unknown) => {
      if (!isKilnError(error, 'STORE_CONFLICT', 'PAYLOAD_TOO_LARGE')) throw error;
      throw saveCorrupt('its head is not of the expected form', error);
    });
    return found && { head: await checkedHead(session, found.value), etag: found.etag };
  };

  /** Writes what `next` makes of the present head, unless that is the same; again where another writer was faster. */
  const change = async (session: SessionName, next: (present: SaveHead | undefined) => SaveHead): Promise<SaveHead> => {
    for (let tries = 1; ; tries++) {
      const present = await find(session);
      const head = next(present?.head);
      if (head === present?.head) return head;
      const document = await documentOf(head);
      try {
        await store.writeDocument(storeKeys.saveHead(session), document, present ? { etag: present.etag } : 'create');
        return head;
      } catch (error) {
        if (tries >= MAX_TRIES || !isKilnError(error, 'STORE_CONFLICT')) throw error;
      }
    }
  };

  return {
    read: async (session) => (await find(session))?.head,
    claim: (session, epoch, newSaltHex) =>
      change(session, (present) => {
        const saltHex = present?.saltHex ?? newSaltHex;
        if (saltHex === undefined) throw wasDeleted(session);
        const verdict = judgeClaim(present && stateOf(present), epoch);
        if (verdict === 'refuse') throw isAnothers(session, present);
        if (verdict === 'done' && present !== undefined) return present;
        return { session, kept: [], ...present, saltHex, epoch };
      }),
    advance: (session, next) =>
      change(session, (present) => {
        const { save } = next;
        const verdict = judgeSave(present && stateOf(present), placeOf(save));
        const isOther = verdict === 'done' && present?.save?.treeSha256 !== save.treeSha256;
        if (present === undefined || verdict === 'refuse' || isOther) throw isAnothers(session, present);
        return verdict === 'done' ? present : advanced(present, next);
      }),
    async forgetCondemned(session, known) {
      const present = await find(session);
      if (present === undefined || !isDeepStrictEqual(present.head, known)) return undefined;
      const { condemned: _, ...head } = known;
      try {
        await store.writeDocument(storeKeys.saveHead(session), await documentOf(head), { etag: present.etag });
        return head;
      } catch (error) {
        if (!isKilnError(error, 'STORE_CONFLICT')) throw error;
        return undefined;
      }
    },
  };
}

const GARBAGE_LIMITS = { kept: KEPT_SAVES, condemned: MAX_CONDEMNED };

/** @throws SESSION_CORRUPT where the save needs what may be deleted */
function advanced(present: SaveHead, next: NextSave): SaveHead {
  const { save, saltHex, packs, nowMs } = next;
  assertNothingLost(present, next);
  const known = garbageOf(present);
  const condemned = restamped(next.deleted ? withoutDeleted(known.condemned, next.deleted) : known.condemned, nowMs);
  const before = beforeOf(present, next.before);
  const gone = goneSince(before, packs, MAX_GARBAGE_PACKS - garbagePacks({ ...known, condemned }).size);
  const kept = gone.length === 0 ? save : { ...save, gone };
  const garbage = keepSave({ kept: known.kept, condemned }, kept, nowMs, GARBAGE_LIMITS);
  return { session: present.session, epoch: placeOf(save).epoch, saltHex, save, ...written(garbage) };
}

/**
 * What is garbage stays so, whatever a save, which a guest has a part in, says that it needs.
 * @throws SESSION_CORRUPT
 */
export function assertNothingLost(head: SaveHead | undefined, { packs, before }: Pick<NextSave, 'packs' | 'before'>) {
  if (head === undefined) return;
  const lost = lostPack({ garbage: garbageOf(head), ...defined({ before: beforeOf(head, before) }) }, packs);
  if (lost !== undefined) throw saveCorrupt(`it needs pack ${lost}, which the store may have no more`);
}

/** What was read of another save than the head names says nothing. */
function beforeOf({ save }: SaveHead, before: SavePacks | undefined): SavePacks | undefined {
  return before?.saveId === save?.saveId ? before : undefined;
}

function garbageOf({ kept, condemned = [] }: SaveHead): SaveGarbage {
  return { kept, condemned };
}

/** A head without garbage looks as it always did. */
function written({ kept, condemned }: SaveGarbage): Pick<SaveHead, 'kept' | 'condemned'> {
  return condemned.length === 0 ? { kept } : { kept, condemned };
}

/** The head by value: it may stand under the wrong key, or have been changed by hand. */
async function checkedHead(session: SessionName, { check, schemaVersion: _, ...head }: Document): Promise<SaveHead> {
  if (check !== (await documentOf(head)).check) throw saveCorrupt('its head was changed by hand');
  if (sessionId(head.session) !== sessionId(session)) throw saveCorrupt(`its head is of ${sessionId(head.session)}`);
  for (const save of head.save === undefined ? head.kept : [head.save, ...head.kept]) {
    if (placeOf(save).turn !== save.turn) throw saveCorrupt('its head contradicts itself');
  }
  return head;
}

type Document = z.infer<typeof saveHeadSchema>;

async function documentOf(head: SaveHead): Promise<Document> {
  const { session, epoch, save, saltHex, kept, condemned } = head;
  const { project, thread, incarnation } = session;
  const name = { project, thread, incarnation };
  const fields = {
    schemaVersion: 1 as const,
    session: name,
    epoch,
    ...defined({ save }),
    saltHex,
    kept,
    ...defined({ condemned }),
  };
  return { ...fields, check: await canonicalHash(fields) };
}

/** @returns the mark of what the head names; undefined where it names no save */
export function markOf({ save }: SaveHead): SaveMark | undefined {
  return save && markOfSave(save);
}

/** @throws SESSION_CORRUPT */
export function markOfSave(save: Pick<HeadSave, 'saveId'>): SaveMark {
  const { turn, n } = placeOf(save);
  return { turn, n };
}

/** @returns what is told of heads to whoever needs no file */
export function createSessionHeads(store: Pick<ObjectStore, 'readDocument' | 'writeDocument'>): SessionHeads {
  const heads = createSaveHeads(store);
  return {
    async read(session) {
      const head = await heads.read(session);
      return head && { epoch: head.epoch, ...defined({ mark: markOf(head) }) };
    },
  };
}

/** @returns what the rules judge by */
export function stateOf({ epoch, save }: SaveHead): HeadState {
  return { epoch, ...defined({ save: save && placeOf(save) }) };
}

function placeOf({ saveId }: Pick<HeadSave, 'saveId'>) {
  const place = savePlaceOf(saveId);
  if (place === undefined) throw saveCorrupt(`"${saveId}" is no save`);
  return place;
}

export function wasDeleted(session: SessionName): KilnError {
  return new KilnError(
    'CONFLICT',
    `The saves of ${sessionWorkflowId(session)} were deleted; nothing is added to them.`,
  );
}

function isAnothers(session: SessionName, head: SaveHead | undefined): KilnError {
  const save = head?.save?.saveId;
  const has = head === undefined ? 'is gone' : `is of placement ${head.epoch} and names ${save ?? 'no save'}`;
  const message = `The head of ${sessionWorkflowId(session)} ${has}: nothing older may replace it.`;
  return new KilnError('CONFLICT', message, defined({ epoch: head?.epoch, saveId: save }));
}
