import { patched, sleep } from '@temporalio/workflow';
import type { PlacementActivities } from '../../activities/placement/placement-types.ts';
import type { PlacedPolicies } from '../../domain/policies.ts';
import { judge } from '../activity-verdict.ts';

/**
 * Waits for a registry entry newer than the suspicion. A registry that cannot be read proves nothing; neither does the
 * age of an entry alone: a machine that slept for hours finds its own entry that old. So reads are counted as well: no
 * reads happen while the machine sleeps.
 * @returns undefined once there is a newer entry; for a host that counts as lost, how long it has been silent, ms
 */
export async function silenceOf(
  hostId: string,
  control: Pick<PlacementActivities, 'checkHost'>,
  { lostAfterMs, recheckMs }: PlacedPolicies['host'],
): Promise<number | undefined> {
  // Executions older than this count are replayed as they ran.
  const enough = patched('count-silent-looks') ? Math.ceil(lostAfterMs / Math.max(recheckMs, 1)) : 0;
  const since = Date.now();
  for (let silent = 0; ; ) {
    await sleep(recheckMs, { summary: `look at ${hostId} again` });
    const age = await entryAge(hostId, control);
    // A missing entry was removed with its machine. Older executions waited for such a host for ever.
    if (age === 'unknown' || (age === 'none' && !patched('lose-a-host-without-entry'))) continue;
    const sinceMs = Date.now() - since;
    if (age !== 'none' && age < sinceMs) return undefined;
    const silentMs = age === 'none' ? sinceMs : age;
    silent += 1;
    if (silentMs > lostAfterMs && silent >= enough) return silentMs;
  }
}

/** @returns age of the host's registry entry, ms */
export async function entryAge(
  hostId: string,
  control: Pick<PlacementActivities, 'checkHost'>,
): Promise<number | 'none' | 'unknown'> {
  try {
    return (await control.checkHost({ hostId })).ageMs ?? 'none';
  } catch (error) {
    if (judge(error).kind === 'cancelled') throw error;
    return 'unknown';
  }
}
