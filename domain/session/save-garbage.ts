/**
 * Which packs of a session's saves nobody needs any more. A save re-uses packs only of the save that the head names
 * before it, so what one save does not need, no later one does: only older kept saves still do. Pure.
 */
import { compareSaves, savePlaceOf } from './head-rules.ts';

/** A save that a head remembers. */
export interface KeptSave {
  readonly turn: number;
  readonly saveId: string;
  readonly treeSha256: string;
  /** Packs that the head's save before it needs, and it does not; absent where there are none, or they are not known. */
  readonly gone?: string[];
}

/** What a save needed that the head has dropped: nobody begins to read it any more, and later it is deleted. */
export interface CondemnedSave {
  /** ISO 8601, by the clock of the host that has dropped it. */
  readonly at: string;
  readonly saveId: string;
  /** Those that no kept save needs. */
  readonly packs: string[];
}

export interface SaveGarbage {
  readonly kept: KeptSave[];
  readonly condemned: CondemnedSave[];
}

/** Names of packs that a save needs. */
export interface SavePacks {
  readonly saveId: string;
  readonly packs: readonly string[];
}

/** Saves that a head remembers, and saves that it condemns. */
export interface GarbageLimits {
  readonly kept: number;
  readonly condemned: number;
}

/** An entry that is so far in the future, ms, was made by another clock. */
const CLOCK_SLACK_MS = 60_000;

/**
 * @param before the save that the head names; absent where what it needs is not known: then its packs stay for the repair
 * @returns packs that `before` needs and a save with `packs` does not, at most so many
 */
export function goneSince(before: SavePacks | undefined, packs: readonly string[], most: number): string[] {
  const needed = new Set(packs);
  return before?.packs.filter((name) => !needed.has(name)).slice(0, Math.max(most, 0)) ?? [];
}

/** @returns the names of packs that a head holds as garbage: no later save may need one */
export function garbagePacks({ kept, condemned }: SaveGarbage): Set<string> {
  return new Set([...kept.flatMap(({ gone }) => gone ?? []), ...condemned.flatMap(({ packs }) => packs)]);
}

/** Puts a save behind the kept ones. Those that are too many are condemned, with the packs that only they need. */
export function keepSave(
  { kept, condemned }: SaveGarbage,
  save: KeptSave,
  nowMs: number,
  limits: GarbageLimits,
): SaveGarbage {
  const all = [...kept, save];
  const at = new Date(nowMs).toISOString();
  const dropped = all.slice(0, -limits.kept);
  const added = dropped.map(({ saveId }, n) => ({ at, saveId, packs: all[n + 1]?.gone ?? [] }));
  const [first, ...more] = all.slice(dropped.length);
  return {
    // Nothing older is kept that could need what the first one does not.
    kept: first === undefined ? [] : [withoutGone(first), ...more],
    // What is too much is left to the repair.
    condemned: [...condemned, ...added].slice(0, limits.condemned),
  };
}

const withoutGone = ({ turn, saveId, treeSha256 }: KeptSave): KeptSave => ({ turn, saveId, treeSha256 });

/** Entries that another clock has put into the future count from now. */
export function restamped(condemned: readonly CondemnedSave[], nowMs: number): CondemnedSave[] {
  const at = new Date(nowMs).toISOString();
  return condemned.map((each) => (Date.parse(each.at) > nowMs + CLOCK_SLACK_MS ? { ...each, at } : each));
}

/** What of the condemned is deleted together: packs, and saves whose packs are all among them, or gone already. */
export interface DueGarbage {
  readonly packs: readonly string[];
  readonly saveIds: readonly string[];
}

/** @returns what was condemned at least `condemnedMs` ago, oldest first, at most so many objects */
export function dueGarbage(
  condemned: readonly CondemnedSave[],
  { nowMs, condemnedMs, most }: { readonly nowMs: number; readonly condemnedMs: number; readonly most: number },
): DueGarbage {
  const due = { packs: [] as string[], saveIds: [] as string[] };
  for (const { at, saveId, packs } of condemned) {
    if (nowMs - Date.parse(at) < condemnedMs) continue;
    const left = most - due.packs.length - due.saveIds.length;
    due.packs.push(...packs.slice(0, left));
    if (packs.length >= left) break;
    due.saveIds.push(saveId);
  }
  return due;
}

/** @returns what is still condemned once that is deleted */
export function withoutDeleted(condemned: readonly CondemnedSave[], deleted: DueGarbage): CondemnedSave[] {
  const [saveIds, names] = [new Set(deleted.saveIds), new Set(deleted.packs)];
  return condemned
    .filter(({ saveId }) => !saveIds.has(saveId))
    .map((each) => ({ ...each, packs: each.packs.filter((name) => !names.has(name)) }));
}

/**
 * Saves re-use packs only of the save that the head names, and of saves after it on their host.
 * @param head `before`: what its save needs, where that is known
 * @returns a pack that a new save needs although it may be gone from the store; undefined where there is none
 */
export function lostPack(
  head: { readonly garbage: SaveGarbage; readonly before?: SavePacks },
  packs: readonly string[],
): string | undefined {
  const garbage = garbagePacks(head.garbage);
  const { before } = head;
  const known = new Set(before?.packs);
  return packs.find(
    (name) => garbage.has(name) || (before !== undefined && !known.has(name) && !isLaterPack(name, before.saveId)),
  );
}

/** @returns the save that a pack was made for: `<saveId>-<n>` */
export function saveOfPack(name: string): string {
  return name.slice(0, name.lastIndexOf('-'));
}

function isLaterPack(name: string, saveId: string): boolean {
  const [pack, save] = [savePlaceOf(saveOfPack(name)), savePlaceOf(saveId)];
  return pack !== undefined && save !== undefined && (pack.epoch > save.epoch || compareSaves(pack, save) > 0);
}
