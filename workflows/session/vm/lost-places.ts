import { patched, sleep, upsertMemo } from '@temporalio/workflow';
import { hasAllStored } from '../../../domain/session/save-book.ts';
import type { SessionContext } from '../session-context.ts';

/** Nothing is lost where the VM of such a session, which rests, is given up. */
export function hasAllSaved({ state }: SessionContext): boolean {
  return hasAllStored(state.saves) && patched('move-saved-sessions');
}

/** Where an earlier placement may still live, it must not save any more, even if there is nothing to bring back. */
export function mustClaim({ placements }: SessionContext): boolean {
  return placements.epoch > 1 && patched('claim-from-lost-places');
}

/**
 * The VMs of the placements so far are nobody's any more: whoever asks whose they are learns that a later placement has
 * the session. Their leases end, and the sweeps of their hosts end them and give back their places.
 */
export function disownPlaces({ placements }: SessionContext): void {
  if (patched('disown-lost-places')) upsertMemo({ epoch: placements.epoch + 1 });
}

/** A host that registers, and takes no calls, may let the VM run until it learns that it is not the session's any more. */
export function noteLostPlace({ state, calls, hot }: SessionContext): void {
  const { hostId } = hot?.placed ?? {};
  if (hostId !== undefined && calls.isDeaf(hostId) && patched('wait-out-leases')) state.noteMayRunOn(hostId);
}

/**
 * Waits until the VM of an earlier placement must stand still: its host has looked at the head, which is this
 * placement's by now, or has let the lease run out.
 * @param hostId of the present placement; on the same host, the older VM has been ended
 */
export async function waitOutLease({ state, policies }: SessionContext, hostId: string): Promise<void> {
  const other = state.state.mayRunOn;
  if (other === undefined) return;
  if (other !== hostId) await sleep(policies.host.leasesMs, { summary: `until ${other} has stopped its VM` });
  state.noteMayRunOn(undefined);
}
