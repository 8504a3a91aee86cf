/**
 * A workflow that holds a VM but is not a workload: it places, boots and releases the VM of a session with the code of
 * `workflows/placed/`, and does nothing else. It is the entry of the bundle of its test.
 */
import { ActivityFailure, ApplicationFailure } from '@temporalio/common';
import { condition, defineSignal, proxyActivities, setHandler, workflowInfo } from '@temporalio/workflow';
import { hostQueue, shortHash } from '../../../domain/names.ts';
import { ownerOf } from '../../../domain/owner.ts';
import { DEFAULT_POLICIES } from '../../../domain/policies.ts';
import { bootFreshVm } from '../../../workflows/placed/boot-loop.ts';
import { findPlace } from '../../../workflows/placed/find-place.ts';
import { HostCalls } from '../../../workflows/placed/host-calls.ts';
import type { PlacedContext } from '../../../workflows/placed/placed-context.ts';
import type { PlacedOwner, PlacedProgress, ResolvedImage } from '../../../workflows/placed/placed-owner.ts';
import { Placements } from '../../../workflows/placed/placements.ts';
import type { FailedUndo } from '../../../workflows/placed/undo-ledger.ts';
import { placementActivities, vmActivities } from '../../../workflows/placed/vm-activities.ts';
import { setAttributes } from '../../../workflows/search-attributes.ts';

/** The signal to release the VM and end the workflow. */
const LET_GO = 'letGo';

const RESOURCES = { vcpus: 1, memMib: 256 };

/** @returns the undo steps that failed */
export async function sessionVmWorkflow(): Promise<FailedUndo[]> {
  let isOver = false;
  setHandler(defineSignal(LET_GO), () => {
    isOver = true;
  });
  const ctx = contextOf();
  const placed = await findPlace(ctx);
  setAttributes({ KilnHost: placed.hostId });
  await bootFreshVm(ctx, placed, 'session');
  setAttributes({ KilnTier: 'hot' });
  await condition(() => isOver);
  return ctx.placements.undo.releaseAll('let go');
}

/** Calls activities of a host about a VM, as whatever workflow it is. @returns how each ended: a code, or its answer */
export async function callHostWorkflow(hostId: string, names: readonly string[], vmId: string): Promise<unknown[]> {
  const host = proxyActivities({
    taskQueue: hostQueue(hostId),
    startToCloseTimeout: '20 s',
    retry: { maximumAttempts: 1 },
  });
  const { workflowId, firstExecutionRunId } = workflowInfo();
  const of = { ...ownerOf(workflowId), epoch: 1 };
  const call = { of, firstExecutionId: firstExecutionRunId, graceMs: 0, deadlineMs: 1_000 };
  return Promise.all(
    names.map(async (name) =>
      host[name]?.({ ...call, ...(name === 'releaseVm' ? { vmIds: [vmId] } : { vmId }) }).catch((error: unknown) => {
        const cause = error instanceof ActivityFailure ? error.cause : error;
        return cause instanceof ApplicationFailure ? cause.type : String(cause);
      }),
    ),
  );
}

function contextOf(): PlacedContext {
  const policies = DEFAULT_POLICIES;
  const owner = sessionOwner();
  const progress = new ShownNowhere();
  const control = placementActivities(policies);
  const calls = new HostCalls(control, policies, () => undefined);
  const placements = new Placements({
    owner,
    policies,
    hostActivities: (hostId) => vmActivities(hostId, policies),
    isLost: (hostId) => calls.lostHosts.includes(hostId),
    from: { epoch: 0, boots: 0 },
  });
  return { owner, policies, progress, control, calls, placements };
}

function sessionOwner(): PlacedOwner {
  const { workflowId, startTime } = workflowInfo();
  const of = ownerOf(workflowId);
  if (of?.kind !== 'session') throw new Error(`${workflowId} is no session`);
  return {
    workflowId,
    lineName: shortHash(workflowId),
    hostname: shortHash(workflowId),
    requestedAt: startTime.toISOString(),
    needs: () => ({ image: 'node', resources: RESOURCES }),
    call: (epoch) => ({ of: { ...of, epoch } }),
  };
}

class ShownNowhere implements PlacedProgress {
  image: ResolvedImage | undefined;

  showImage(image: ResolvedImage): void {
    this.image = image;
  }

  wait(): void {}

  note(): void {}

  showVm(): void {}

  showBooted(): void {}
}
