import { ActivityCancellationType, type ActivityOptions, proxyActivities } from '@temporalio/workflow';
import type { PlacementActivities } from '../../activities/placement/placement-types.ts';
import type { VmActivities } from '../../activities/vm/vm-types.ts';
import { hostQueue } from '../../domain/names.ts';
import type { PlacedPolicies } from '../../domain/policies.ts';

/** Waits until a cancelled activity has cleaned up: for every activity that may hold a resource. */
const { TRY_CANCEL, WAIT_CANCELLATION_COMPLETED } = ActivityCancellationType;

const ONCE = { maximumAttempts: 1 };

/** @returns options of an activity that any control worker runs. */
export function controlOptions(summary: string, { control, placement }: PlacedPolicies): ActivityOptions {
  return {
    startToCloseTimeout: control.startToCloseMs,
    retry: { initialInterval: placement.backoffMs, maximumInterval: placement.maxBackoffMs },
    cancellationType: TRY_CANCEL,
    summary,
  };
}

/** @returns the activities that find a place for a VM. */
export function placementActivities(policies: PlacedPolicies): PlacementActivities {
  const make = (summary: string) =>
    proxyActivities<PlacementActivities>({
      ...controlOptions(summary, policies),
      scheduleToCloseTimeout: policies.control.scheduleToCloseMs,
    });
  return {
    placeWorkload: make('choose a host').placeWorkload,
    leaveLine: make('no longer wait for capacity').leaveLine,
    resolveImage: make('find the image').resolveImage,
    checkHost: make('is the host alive?').checkHost,
  };
}

/** @returns options of an activity of one host: tried once, because the workflow judges time-outs of the host. */
export function hostOptions(
  summary: string,
  hostId: string,
  startToCloseMs: number,
  { host }: Pick<PlacedPolicies, 'host'>,
): ActivityOptions {
  return {
    taskQueue: hostQueue(hostId),
    scheduleToStartTimeout: host.scheduleToStartMs,
    startToCloseTimeout: startToCloseMs,
    cancellationType: WAIT_CANCELLATION_COMPLETED,
    retry: ONCE,
    summary: `${summary} (${hostId})`,
  };
}

/** @returns options of an activity that releases something: tried until its time is over. */
export function leavingOptions({ leave, supervise, host }: PlacedPolicies): ActivityOptions {
  return {
    heartbeatTimeout: leave.heartbeatMs,
    scheduleToStartTimeout: Math.max(leave.scheduleToCloseMs, host.scheduleToStartMs),
    scheduleToCloseTimeout: leave.scheduleToCloseMs,
    retry: { initialInterval: supervise.backoffMs, maximumInterval: supervise.maxBackoffMs },
  };
}

/** @returns the activities that make, boot and release a VM on one host. */
export function vmActivities(hostId: string, policies: PlacedPolicies): VmActivities {
  const { deploy, leave, control } = policies;
  const on = (summary: string, startToCloseMs: number, more: ActivityOptions = {}) =>
    proxyActivities<VmActivities>({ ...hostOptions(summary, hostId, startToCloseMs, policies), ...more });
  const beating = { heartbeatTimeout: deploy.heartbeatMs };
  return {
    reserveCapacity: on('reserve capacity', control.startToCloseMs).reserveCapacity,
    provisionRootfs: on('copy-on-write disks', deploy.provisionMs, beating).provisionRootfs,
    bootVm: on('boot the VM', deploy.bootMs + deploy.heartbeatMs, beating).bootVm,
    releaseVm: on('release VM, disks, port, reservation', leave.startToCloseMs, leavingOptions(policies)).releaseVm,
  };
}

/**
 * The release on a host that counts as lost: tried once, in case the host comes back at this moment. That host's own
 * sweep frees what it holds; the workflow does not wait for it.
 */
export function releaseOnLostHost(hostId: string, policies: PlacedPolicies): VmActivities['releaseVm'] {
  const { scheduleToStartMs } = policies.host.movesAfter;
  const host = { ...policies.host, scheduleToStartMs };
  return proxyActivities<VmActivities>({
    ...hostOptions('release on a lost host', hostId, policies.leave.startToCloseMs, { host }),
    heartbeatTimeout: policies.leave.heartbeatMs,
  }).releaseVm;
}
