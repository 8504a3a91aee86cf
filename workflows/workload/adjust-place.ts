import { patched } from '@temporalio/workflow';
import { type ServiceNeeds, sameResources } from '../../domain/workload/workload.ts';
import { reserveAgain } from '../placed/find-place.ts';
import type { PlacedWorkload, WorkloadContext } from './workload-context.ts';

/**
 * Gives a placed workload what its manifest turned out to ask for: another image, another size under the same name.
 * @returns false where the host has no room for it: then the workload is to be placed again
 * @throws ActivityFailure IMAGE_MISSING; CodedFailure HOST_LOST
 */
export async function adjust(ctx: WorkloadContext, placed: PlacedWorkload, needs: ServiceNeeds): Promise<boolean> {
  const before = ctx.needs;
  ctx.needs = needs;
  if (needs.image !== before.image) {
    const deadline = Date.now() + ctx.policies.placement.deadlineMs;
    const { image } = needs;
    ctx.progress.showImage(await ctx.calls.onControl(() => ctx.control.resolveImage({ image }), deadline));
  }
  if (sameResources(needs.resources, before.resources)) return true;
  return reserveAgain(ctx, placed);
}

/**
 * Asks again for what was reserved once a build has taken so long that it may have been given to another: a build that
 * waits, for another of its key or for room, holds nothing.
 * @param sinceMs when it was last reserved, ms since 1970
 * @returns false where there is no room any more: then the workload is to be placed again
 */
export async function holdOn(ctx: WorkloadContext, placed: PlacedWorkload, sinceMs: number): Promise<boolean> {
  if (Date.now() - sinceMs < ctx.policies.placement.reservationTtlMs / 2 || !patched('hold-on-after-build'))
    return true;
  return reserveAgain(ctx, placed);
}
