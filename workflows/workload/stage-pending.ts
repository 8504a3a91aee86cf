import { CancellationScope, sleep } from '@temporalio/workflow';
import { failureKind } from '../../domain/failures.ts';
import { backoffMs } from '../../domain/policies.ts';
import { type ServiceNeeds, sameResources } from '../../domain/workload.ts';
import { judge, StageFailure } from '../workflow-failures.ts';
import type { Placed, WorkloadContext } from './workload-context.ts';

/**
 * Finds a host and holds capacity on it. A request that must wait is shown waiting, with the reason.
 * @throws StageFailure NO_CAPACITY, IMAGE_MISSING
 */
export async function place(ctx: WorkloadContext): Promise<Placed> {
  const { placement, host } = ctx.policies;
  const deadline = Date.now() + placement.deadlineMs;
  let refused: string[] = [];
  for (let attempt = 1; ; attempt++) {
    const choice = await ctx.control.placeWorkload({
      workloadId: ctx.input.workloadId,
      image: ctx.record.state.image
        ? `${ctx.record.state.image.name}@${ctx.record.state.image.digest}`
        : ctx.needs.image,
      resources: ctx.needs.resources,
      excludedHosts: [...ctx.lostHosts, ...refused],
      freshForMs: host.lostAfterMs,
      ...(attempt === 1 && ctx.record.stage === 'pending' && ctx.lostHosts.length === 0
        ? { requestedAt: ctx.input.requestedAt }
        : {}),
    });
    if (choice.kind === 'impossible') throw noCapacity(ctx, choice.reason);
    if (choice.kind === 'placed') {
      if (!ctx.record.state.image) ctx.record.update({ image: choice.image });
      const placed = await reserve(ctx, choice.hostId);
      if (placed) return placed;
      refused.push(choice.hostId);
      continue;
    }
    // Every host has refused or is full: begin the round anew after a pause.
    refused = [];
    ctx.record.wait(choice.reason);
    if (Date.now() >= deadline) throw noCapacity(ctx, choice.reason);
    await sleep(Math.min(backoffMs(attempt, placement.backoffMs, placement.maxBackoffMs), deadline - Date.now()), {
      summary: 'wait for capacity',
    });
  }
}

/** @returns the placement, or undefined where the host refused or was silent; then nothing is left there. */
async function reserve(ctx: WorkloadContext, hostId: string): Promise<Placed | undefined> {
  const { placed, undo } = ctx.newPlacement(hostId);
  try {
    const { reserved } = await placed.host.reserveCapacity(reservation(ctx, placed));
    if (reserved) {
      ctx.record.wait(undefined);
      return placed;
    }
    ctx.undo.settle(undo);
    ctx.forgetPlacement();
    return undefined;
  } catch (error) {
    const verdict = judge(error);
    const passing = verdict.kind === 'failure' && failureKind(verdict.code).retryable;
    if (verdict.kind !== 'suspicion' && verdict.kind !== 'timeout' && !passing) throw error;
    // A silent host may yet have made the reservation: it expires by itself, and this epoch is never used again.
    ctx.record.note(`${hostId}: ${verdict.message}`);
    ctx.undo.settle(undo);
    void CancellationScope.nonCancellable(() => undo.release('silent host')).catch(() => undefined);
    return undefined;
  }
}

/**
 * Gives a placed workload what its manifest turned out to ask for: another image, another size under the same name.
 * @returns false where the host has no room for it: then the workload is to be placed again
 * @throws ActivityFailure IMAGE_MISSING; StageFailure HOST_LOST
 */
export async function adjust(ctx: WorkloadContext, placed: Placed, needs: ServiceNeeds): Promise<boolean> {
  const before = ctx.needs;
  ctx.needs = needs;
  if (needs.image !== before.image) {
    ctx.record.update({ image: await ctx.control.resolveImage({ image: needs.image }) });
  }
  if (sameResources(needs.resources, before.resources)) return true;
  return (await ctx.onHost(placed, () => placed.host.reserveCapacity(reservation(ctx, placed)))).reserved;
}

function reservation(ctx: WorkloadContext, placed: Placed) {
  return {
    reservationId: placed.reservationId,
    ownerWorkflowId: `workload/${ctx.input.workloadId}`,
    resources: ctx.needs.resources,
    ttlMs: ctx.policies.placement.reservationTtlMs,
  };
}

function noCapacity(ctx: WorkloadContext, reason: string): StageFailure {
  return new StageFailure({ code: 'NO_CAPACITY', message: reason, stage: ctx.record.stage });
}
