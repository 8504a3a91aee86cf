/** Where the files of a session are. Pure. */
import { hasAllStored, type SaveBook } from './save-book.ts';
import type { Tier } from './tiers.ts';

/** `end`: of a session that is over; no `state`: nothing was sent to it since its workflow ended. */
export interface FilesOf {
  readonly record: { readonly end?: unknown };
  readonly state?: { readonly tier: Tier; readonly saves?: SaveBook };
}

/** @returns whether the store has the workspace as it is now, with no VM that may just be changing it */
export function isInStore({ record, state }: FilesOf): boolean {
  if (record.end !== undefined || state === undefined) return true;
  const { tier, saves } = state;
  // The end of a session is in its state before it is on record.
  if (tier === 'cold' || tier === 'closed' || tier === 'expired') return true;
  return hasVmAtRest({ record, state }) && hasAllStored(saves);
}

/** @returns whether a VM that rests, or is about to go, has the workspace, too */
export function hasVmAtRest({ record, state }: FilesOf): boolean {
  return record.end === undefined && (state?.tier === 'warm' || state?.tier === 'evicting');
}
