import { CancellationScope, sleep } from '@temporalio/workflow';
import { backoffMs } from '../../domain/policies.ts';
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
        : ctx.input.image,
      resources: ctx.input.resources,
      excludedHosts: [...ctx.lostHosts, ...refused],
      freshForMs: host.lostAfterMs,
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
    const { reserved } = await placed.host.reserveCapacity({
      reservationId: placed.reservationId,
      ownerWorkflowId: `workload/${ctx.input.workloadId}`,
      resources: ctx.input.resources,
      ttlMs: ctx.policies.placement.reservationTtlMs,
    });
    if (reserved) {
      ctx.record.wait(undefined);
      ctx.log('info', `placed on ${hostId}, epoch ${placed.epoch}`);
      return placed;
    }
    ctx.undo.settle(undo);
    ctx.forgetPlacement();
    return undefined;
  } catch (error) {
    const verdict = judge(error);
    if (verdict.kind !== 'suspicion' && verdict.kind !== 'timeout') throw error;
    // A silent host may yet have made the reservation: it expires by itself, and this epoch is never used again.
    ctx.record.note(`${hostId}: ${verdict.message}`);
    ctx.undo.settle(undo);
    void CancellationScope.nonCancellable(() => undo.release('silent host')).catch(() => undefined);
    return undefined;
  }
}

function noCapacity(ctx: WorkloadContext, reason: string): StageFailure {
  return new StageFailure({ code: 'NO_CAPACITY', message: reason, stage: ctx.record.stage });
}
