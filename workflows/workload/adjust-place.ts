import { patched } from '@temporalio/workflow';
import { type ServiceNeeds, sameResources } from '../../domain/workload/workload.ts';
import { reserveAgain } from '../placed/find-place.ts';
import type { PlacedWorkload, WorkloadContext } from './workload-context.ts';

/**
 * Changes a placed workload to what its manifest asks for: another image, or another size under the same name.
 * @returns false where the host has no room for it: then the workload must be placed again
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
 * Renews the reservation after a build so long that it may have expired: a build that waits, for another build of its
 * key or for room, holds nothing.
 * @param sinceMs when it was last reserved, ms since 1970
 * @returns false where there is no room any more: then the workload must be placed again
 */
export async function holdOn(ctx: WorkloadContext, placed: PlacedWorkload, sinceMs: number): Promise<boolean> {
  if (Date.now() - sinceMs < ctx.policies.placement.reservationTtlMs / 2 || !patched('hold-on-after-build'))
    return true;
  return reserveAgain(ctx, placed);
}
