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
 * Finds a host and reserves capacity on it. A request that must wait shows that it waits, and why.
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
    // Every host has refused or is full: start a new round after a pause.
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

/** The question to the control workers. The first one carries the time of the request, so that the wait is measured. */
function question(
  { owner, progress, policies, calls, placements }: PlacedContext,
  attempt: number,
  refused: readonly string[],
): Parameters<PlacedContext['control']['placeWorkload']>[0] {
  const { image } = progress;
  const needs = owner.needs();
  // An owner that may return would else be placed where it was just lost.
  const mustBeFresh = owner.mayReturn === true && calls.lostHosts.length > 0;
  const isFirst = attempt === 1 && placements.epoch === 0;
  return {
    workloadId: owner.lineName,
    image: image ? `${image.name}@${image.digest}` : needs.image,
    resources: needs.resources,
    excludedHosts: [...calls.avoided(owner.mayReturn === true), ...refused],
    freshForMs: mustBeFresh ? policies.host.movesAfter.silentMs : policies.host.lostAfterMs,
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
 * The owner's place in the line for capacity. `placeWorkload` takes it when the owner has to wait. The owner leaves it
 * once it is placed, at the latest with all other releases at the end, so that no other request waits for it in vain.
 */
function placeInLine({ owner, control, progress, placements }: PlacedContext): {
  join(): void;
  leave(): Promise<void>;
} {
  const undo: Undo = {
    name: 'place in the line for capacity',
    hostId: 'control',
    // A failure to leave the line loses no resource: an entry that is not renewed stops counting.
    release: () =>
      control.leaveLine({ workloadId: owner.lineName }).catch((error: unknown) => {
        const verdict = judge(error);
        progress.note(`place in the line: ${verdict.kind === 'cancelled' ? 'cancelled' : verdict.message}`);
      }),
  };
  let joined = false;
  return {
    join() {
      // Histories recorded before the line existed contain no call to leave it.
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

/** @returns the placement; undefined where the host refused or was silent: then nothing stays reserved there. */
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
    // A silent host may still make the reservation: it expires by itself, and this epoch is never used again.
    progress.note(`${hostId}: ${verdict.message}`);
    placements.undo.settle(undo);
    void CancellationScope.nonCancellable(() => undo.release('silent host')).catch(() => undefined);
    return undefined;
  }
}

/**
 * Asks again for the reservation of a placement, with the size that the owner needs now.
 * @returns false where the host has no room for it: then the owner must be placed again
 * @throws CodedFailure HOST_LOST
 */
export async function reserveAgain<Host extends VmActivities>(
  ctx: PlacedContext<Host>,
  placed: Placed<Host>,
): Promise<boolean> {
  const deadline = Date.now() + ctx.policies.placement.deadlineMs;
  for (let tries = 1; ; tries++) {
    try {
      return (await ctx.calls.onHost(placed, () => placed.host.reserveCapacity(reservation(ctx, placed)))).reserved;
    } catch (error) {
      const verdict = judge(error);
      // The same reservation again changes nothing: a host that is slow once does not fail its workloads.
      if (verdict.kind !== 'timeout' || Date.now() >= deadline || !patched('reserve-again-after-time-out')) throw error;
      ctx.progress.note(`${placed.hostId}: ${verdict.message}`);
      await ctx.calls.outagePause(tries);
    }
  }
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
