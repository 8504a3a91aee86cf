/** Where the files of a session are. Pure. */
import { isStored, type SaveBook } from './save-book.ts';
import type { Tier } from './tiers.ts';

/**
 * @param session `end`: of a session that is over; no `state`: nothing was sent to it since its workflow ended
 * @returns whether the store has the workspace as it is now, with no VM that may just be changing it
 */
export function isInStore({
  record,
  state,
}: {
  readonly record: { readonly end?: unknown };
  readonly state?: { readonly tier: Tier; readonly saves?: SaveBook };
}): boolean {
  if (record.end !== undefined || state === undefined) return true;
  const { tier, saves } = state;
  if (tier === 'cold') return true;
  return (tier === 'warm' || tier === 'evicting') && saves?.stored !== undefined && isStored(saves);
}
