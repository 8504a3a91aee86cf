import { CancellationScope, patched, sleep } from '@temporalio/workflow';
import type { VmActivities } from '../../activities/vm/vm-types.ts';
import { DEFAULT_PRIORITY } from '../../domain/capacity/priority.ts';
import { failureKind } from '../../domain/failures.ts';
import { backoffMs } from '../../domain/policies.ts';
import { CodedFailure, judge } from '../activity-verdict.ts';
import type { PlacedContext } from './placed-context.ts';
import type { Placed } from './placements.ts';
import type { Undo } from './undo-ledger.ts';

/**
 * Finds a host and holds capacity on it. A request that must wait is shown waiting, with the reason.
 * @throws CodedFailure NO_CAPACITY, IMAGE_MISSING
 */
export async function findPlace<Host extends VmActivities>(ctx: PlacedContext<Host>): Promise<Placed<Host>> {
  const { control, calls, progress } = ctx;
  const { placement } = ctx.policies;
  const deadline = Date.now() + placement.deadlineMs;
  let refused: string[] = [];
  const line = placeInLine(ctx);
  for (let attempt = 1; ; attempt++) {
    const choice = await calls.onControl(() => control.placeWorkload(question(ctx, attempt, refused)), deadline);
    if (choice.kind === 'impossible') throw noCapacity(choice.reason);
    if (choice.kind === 'placed') {
      if (!progress.image) progress.showImage(choice.image);
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
    progress.wait(reason, choice.ahead);
    if (Date.now() >= deadline) throw noCapacity(reason);
    await sleep(Math.min(backoffMs(attempt, placement.backoffMs, placement.maxBackoffMs), deadline - Date.now()), {
      summary: 'wait for capacity',
    });
  }
}

/** What the control workers are asked. The first time of all, the request's own time goes along, which is measured. */
function question(
  { owner, progress, policies, calls, placements }: PlacedContext,
  attempt: number,
  refused: readonly string[],
): Parameters<PlacedContext['control']['placeWorkload']>[0] {
  const { image } = progress;
  const needs = owner.needs();
  const isFirst = attempt === 1 && placements.epoch === 0;
  return {
    workloadId: owner.lineName,
    image: image ? `${image.name}@${image.digest}` : needs.image,
    resources: needs.resources,
    excludedHosts: [...calls.lostHosts, ...refused],
    freshForMs: policies.host.lostAfterMs,
    place: {
      priority: owner.priority ?? DEFAULT_PRIORITY,
      sinceMs: Date.parse(owner.requestedAt),
      seenForMs: policies.placement.seenForMs,
    },
    ...(isFirst ? { requestedAt: owner.requestedAt } : {}),
  };
}

function inWords(ahead: number): string {
  return ahead === 0 ? '' : `${ahead} ${ahead === 1 ? 'workload is' : 'workloads are'} served before it.`;
}

/**
 * The owner's place among those who wait. `placeWorkload` takes it; an owner that was told to wait leaves it again, at
 * the latest with all else at the end, so that nobody waits for one that no longer does.
 */
function placeInLine({ owner, control, progress, placements }: PlacedContext): {
  join(): void;
  leave(): Promise<void>;
} {
  const undo: Undo = {
    name: 'place in the line for capacity',
    hostId: 'control',
    // A place that could not be left is no resource that is lost: one that is not seen there any more does not count.
    release: () =>
      control.leaveLine({ workloadId: owner.lineName }).catch((error: unknown) => {
        const verdict = judge(error);
        progress.note(`place in the line: ${verdict.kind === 'cancelled' ? 'cancelled' : verdict.message}`);
      }),
  };
  let joined = false;
  return {
    join() {
      // Recorded histories of before there was a line know nothing of leaving it.
      if (joined || !patched('waiting-line')) return;
      joined = true;
      placements.undo.register(undo);
    },
    async leave() {
      if (!joined) return;
      joined = false;
      await placements.undo.releaseOne(undo, 'placed');
    },
  };
}

/** @returns the placement, or undefined where the host refused or was silent; then nothing is left there. */
async function reserve<Host extends VmActivities>(
  ctx: PlacedContext<Host>,
  hostId: string,
): Promise<Placed<Host> | undefined> {
  const { placements, progress } = ctx;
  const { placed, undo } = placements.begin(hostId);
  try {
    const { reserved } = await placed.host.reserveCapacity(reservation(ctx, placed));
    if (reserved) {
      progress.wait(undefined);
      return placed;
    }
    placements.undo.settle(undo);
    placements.forget();
    return undefined;
  } catch (error) {
    const verdict = judge(error);
    const passing = verdict.kind === 'failure' && failureKind(verdict.code).retryable;
    if (verdict.kind !== 'suspicion' && verdict.kind !== 'timeout' && !passing) throw error;
    // A silent host may yet have made the reservation: it expires by itself, and this epoch is never used again.
    progress.note(`${hostId}: ${verdict.message}`);
    placements.undo.settle(undo);
    void CancellationScope.nonCancellable(() => undo.release('silent host')).catch(() => undefined);
    return undefined;
  }
}

/**
 * Asks for the reservation of a placement again, of the size that the owner needs now.
 * @returns false where the host has no room for it: then the owner is to be placed again
 * @throws CodedFailure HOST_LOST
 */
export async function reserveAgain<Host extends VmActivities>(
  ctx: PlacedContext<Host>,
  placed: Placed<Host>,
): Promise<boolean> {
  return (await ctx.calls.onHost(placed, () => placed.host.reserveCapacity(reservation(ctx, placed)))).reserved;
}

function reservation({ owner, policies }: PlacedContext, placed: Placed) {
  return {
    reservationId: placed.reservationId,
    ownerWorkflowId: owner.workflowId,
    resources: owner.needs().resources,
    ttlMs: policies.placement.reservationTtlMs,
  };
}

function noCapacity(reason: string): CodedFailure {
  return new CodedFailure({ code: 'NO_CAPACITY', message: reason });
}
