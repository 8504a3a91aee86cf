import { CancellationScope, patched, sleep } from '@temporalio/workflow';
import { DEFAULT_PRIORITY } from '../../domain/capacity/priority.ts';
import { failureKind } from '../../domain/failures.ts';
import { backoffMs } from '../../domain/policies.ts';
import { type ServiceNeeds, sameResources } from '../../domain/workload/workload.ts';
import type { Undo } from '../undo-ledger.ts';
import { judge, StageFailure } from '../workflow-failures.ts';
import type { Placed, WorkloadContext } from './workload-context.ts';

/**
 * Finds a host and holds capacity on it. A request that must wait is shown waiting, with the reason.
 * @throws StageFailure NO_CAPACITY, IMAGE_MISSING
 */
export async function place(ctx: WorkloadContext): Promise<Placed> {
  const { placement } = ctx.policies;
  const deadline = Date.now() + placement.deadlineMs;
  let refused: string[] = [];
  const line = placeInLine(ctx);
  for (let attempt = 1; ; attempt++) {
    const choice = await ctx.onControl(() => ctx.control.placeWorkload(question(ctx, attempt, refused)), deadline);
    if (choice.kind === 'impossible') throw noCapacity(ctx, choice.reason);
    if (choice.kind === 'placed') {
      if (!ctx.record.state.image) ctx.record.update({ image: choice.image });
      const placed = await reserve(ctx, choice.hostId);
      if (placed) {
        await line.leave();
        return placed;
      }
      refused.push(choice.hostId);
      continue;
    }
    // Every host has refused or is full: begin the round anew after a pause.
    refused = [];
    line.join();
    const reason = choice.ahead === undefined ? choice.reason : `${inWords(choice.ahead)} ${choice.reason}`.trim();
    ctx.record.wait(reason, choice.ahead);
    if (Date.now() >= deadline) throw noCapacity(ctx, reason);
    await sleep(Math.min(backoffMs(attempt, placement.backoffMs, placement.maxBackoffMs), deadline - Date.now()), {
      summary: 'wait for capacity',
    });
  }
}

/** What the control workers are asked. The first time of all, the request's own time goes along, which is measured. */
function question(
  ctx: WorkloadContext,
  attempt: number,
  refused: readonly string[],
): Parameters<typeof ctx.control.placeWorkload>[0] {
  const { image } = ctx.record.state;
  const { placement, host } = ctx.policies;
  const isFirst = attempt === 1 && ctx.record.stage === 'pending' && ctx.lostHosts.length === 0;
  return {
    workloadId: ctx.input.workloadId,
    image: image ? `${image.name}@${image.digest}` : ctx.needs.image,
    resources: ctx.needs.resources,
    excludedHosts: [...ctx.lostHosts, ...refused],
    freshForMs: host.lostAfterMs,
    place: {
      priority: ctx.input.priority ?? DEFAULT_PRIORITY,
      sinceMs: Date.parse(ctx.input.requestedAt),
      seenForMs: placement.seenForMs,
    },
    ...(isFirst ? { requestedAt: ctx.input.requestedAt } : {}),
  };
}

function inWords(ahead: number): string {
  return ahead === 0 ? '' : `${ahead} ${ahead === 1 ? 'workload is' : 'workloads are'} served before it.`;
}

/**
 * The workload's place among those who wait. `placeWorkload` takes it; whoever was told to wait leaves it again, at the
 * latest with all else at the end, so that nobody waits for a workload that no longer does.
 */
function placeInLine(ctx: WorkloadContext): { join(): void; leave(): Promise<void> } {
  const { workloadId } = ctx.input;
  const undo: Undo = {
    name: 'place in the line for capacity',
    hostId: 'control',
    // A place that could not be left is no resource that is lost: who is not seen there any more does not count.
    release: () =>
      ctx.control.leaveLine({ workloadId }).catch((error: unknown) => {
        const verdict = judge(error);
        ctx.record.note(`place in the line: ${verdict.kind === 'cancelled' ? 'cancelled' : verdict.message}`);
      }),
  };
  let joined = false;
  return {
    join() {
      // Recorded histories of before there was a line know nothing of leaving it.
      if (joined || !patched('waiting-line')) return;
      joined = true;
      ctx.undo.register(undo);
    },
    async leave() {
      if (!joined) return;
      joined = false;
      await ctx.undo.releaseOne(undo, 'placed');
    },
  };
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
    const deadline = Date.now() + ctx.policies.placement.deadlineMs;
    ctx.record.update({ image: await ctx.onControl(() => ctx.control.resolveImage({ image: needs.image }), deadline) });
  }
  if (sameResources(needs.resources, before.resources)) return true;
  return (await ctx.onHost(placed, () => placed.host.reserveCapacity(reservation(ctx, placed)))).reserved;
}

/**
 * Asks again for what was reserved once a build has taken so long that it may have been given to another: a build that
 * waits, for another of its key or for room, holds nothing.
 * @param sinceMs when it was last reserved, ms since 1970
 * @returns false where there is no room any more: then the workload is to be placed again
 */
export async function holdOn(ctx: WorkloadContext, placed: Placed, sinceMs: number): Promise<boolean> {
  if (Date.now() - sinceMs < ctx.policies.placement.reservationTtlMs / 2 || !patched('hold-on-after-build'))
    return true;
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
