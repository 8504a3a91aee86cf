/**
 * Who may change the head of a session, which names its newest save: the placement with the highest epoch, and only
 * forwards. Pure.
 */

import type { SaveMark } from './save-book.ts';

/** Where a save stands among the saves of its session. */
export interface SavePlace extends SaveMark {
  /** Of the placement that made it. */
  readonly epoch: number;
}

const SAVE_ID = /^(\d{1,9})-(\d{1,9})-(\d{1,9})$/;

/** @returns `<epoch>-<turn>-<n>` */
export function saveIdOf({ epoch, turn, n }: SavePlace): string {
  return `${epoch}-${turn}-${n}`;
}

/** @returns undefined where it is not the id of a save */
export function savePlaceOf(saveId: string): SavePlace | undefined {
  const [, epoch, turn, n] = SAVE_ID.exec(saveId) ?? [];
  if (epoch === undefined || turn === undefined || n === undefined) return undefined;
  const place = { epoch: Number(epoch), turn: Number(turn), n: Number(n) };
  return saveIdOf(place) === saveId ? place : undefined;
}

/** Orders saves of one session: a later turn is newer, then a later placement. @returns as a sort wants it */
export function compareSaves(a: SavePlace, b: SavePlace): number {
  return a.turn - b.turn || a.epoch - b.epoch || a.n - b.n;
}

/** @param kept in the order of their writing. @returns the last save of each turn, newest turn first */
export function newestOfTurns<S extends { readonly turn: number }>(kept: readonly S[]): readonly S[] {
  const byTurn = new Map(kept.map((save) => [save.turn, save]));
  return [...byTurn.values()].sort((a, b) => b.turn - a.turn);
}

/** The part of a head that decides. */
export interface HeadState {
  /** Of the placement that has claimed the head. */
  readonly epoch: number;
  /** Absent where nothing was ever saved. */
  readonly save?: SavePlace;
}

/** `done`: the head is so already. `refuse`: final for this writer. */
export type HeadVerdict = 'write' | 'done' | 'refuse';

/**
 * Whether nobody brings a save of this place into the store any more: its placement does not have the head, or has
 * brought a later one.
 */
export function isPastPlace(head: HeadState, place: SavePlace): boolean {
  if (place.epoch !== head.epoch) return place.epoch < head.epoch;
  return head.save?.epoch === place.epoch && compareSaves(place, head.save) <= 0;
}

/** A placement claims a head that no placement, or only an earlier one, has. */
export function judgeClaim(head: HeadState | undefined, epoch: number): HeadVerdict {
  if (head === undefined || head.epoch < epoch) return 'write';
  return head.epoch === epoch ? 'done' : 'refuse';
}

/** A save replaces an older save, in a head that its own placement has claimed. */
export function judgeSave(head: HeadState | undefined, save: SavePlace): HeadVerdict {
  if (head?.epoch !== save.epoch) return 'refuse';
  if (head.save === undefined) return 'write';
  const order = compareSaves(head.save, save);
  if (order === 0) return 'done';
  return order < 0 ? 'write' : 'refuse';
}
