import { ActivityCancellationType, type ActivityOptions, proxyActivities } from '@temporalio/workflow';
import type { ControlActivities, HostActivities } from '../../activities/activity-types.ts';
import { hostQueue } from '../../domain/names.ts';
import type { WorkloadPolicies } from '../../domain/policies.ts';

/** Waits until the activity has put its affairs in order: for whatever may hold a resource. */
const { TRY_CANCEL, WAIT_CANCELLATION_COMPLETED } = ActivityCancellationType;

const ONCE = { maximumAttempts: 1 };

/** Activities that any control worker runs. */
export function controlActivities(policies: WorkloadPolicies): ControlActivities {
  const { startToCloseMs, scheduleToCloseMs } = policies.control;
  const make = (summary: string, more: ActivityOptions = {}) =>
    proxyActivities<ControlActivities>({
      startToCloseTimeout: startToCloseMs,
      retry: { initialInterval: policies.placement.backoffMs, maximumInterval: policies.placement.maxBackoffMs },
      cancellationType: TRY_CANCEL,
      summary,
      ...more,
    });
  return {
    placeWorkload: make('choose a host', { scheduleToCloseTimeout: scheduleToCloseMs }).placeWorkload,
    leaveLine: make('no longer wait for capacity', { scheduleToCloseTimeout: scheduleToCloseMs }).leaveLine,
    resolveImage: make('find the image', { scheduleToCloseTimeout: scheduleToCloseMs }).resolveImage,
    checkHost: make('is the host alive?', { scheduleToCloseTimeout: scheduleToCloseMs }).checkHost,
    // Without the result document the record would end with Temporal's retention: tried until it is written.
    closeBooks: make('archive the outcome').closeBooks,
  };
}

/**
 * The release on a host that counts as lost: asked once, in case it comes back this moment. The sweep of that host owns
 * what it holds; nobody waits for it.
 */
export function releaseOnLostHost(hostId: string, policies: WorkloadPolicies): HostActivities['releaseVm'] {
  return proxyActivities<HostActivities>({
    taskQueue: hostQueue(hostId),
    scheduleToStartTimeout: policies.host.scheduleToStartMs,
    startToCloseTimeout: policies.leave.startToCloseMs,
    heartbeatTimeout: policies.leave.heartbeatMs,
    cancellationType: WAIT_CANCELLATION_COMPLETED,
    retry: ONCE,
    summary: `release on a lost host (${hostId})`,
  }).releaseVm;
}

/** Activities of one host. Time-outs of the host itself are judged by the workflow, so most are tried once. */
export function hostActivities(hostId: string, policies: WorkloadPolicies): HostActivities {
  const { validate, build, deploy, supervise, host, leave, control } = policies;
  const on = (summary: string, startToCloseMs: number, more: ActivityOptions = {}) =>
    proxyActivities<HostActivities>({
      taskQueue: hostQueue(hostId),
      scheduleToStartTimeout: host.scheduleToStartMs,
      startToCloseTimeout: startToCloseMs,
      cancellationType: WAIT_CANCELLATION_COMPLETED,
      retry: ONCE,
      summary: `${summary} (${hostId})`,
      ...more,
    });
  const beating = { heartbeatTimeout: deploy.heartbeatMs };
  return {
    reserveCapacity: on('reserve capacity', control.startToCloseMs).reserveCapacity,
    validateService: on('validate the service', validate.startToCloseMs, {
      cancellationType: TRY_CANCEL,
      retry: { maximumAttempts: validate.tries },
    }).validateService,
    buildService: on('build', build.startToCloseMs, { heartbeatTimeout: build.heartbeatMs }).buildService,
    provisionRootfs: on('copy-on-write disks', deploy.provisionMs, beating).provisionRootfs,
    bootVm: on('boot the VM', deploy.bootMs + deploy.heartbeatMs, beating).bootVm,
    startService: on('start the service', deploy.startMs, beating).startService,
    checkHealth: (input) => {
      // The service's own start period decides, and ends with HEALTH_FAILED; this limit is for a worker that hangs.
      const limitMs = input.manifest.health.startPeriodMs + deploy.healthMarginMs;
      return on('wait until it is healthy', limitMs, beating).checkHealth(input);
    },
    superviseVm: on('running', supervise.startToCloseMs, {
      heartbeatTimeout: supervise.heartbeatMs,
      // A supervisor holds nothing: when it is cancelled, nothing has to be waited for.
      cancellationType: TRY_CANCEL,
    }).superviseVm,
    stopService: on('stop the service', leave.startToCloseMs, leaving(policies)).stopService,
    releaseVm: on('release VM, disks, port, reservation', leave.startToCloseMs, leaving(policies)).releaseVm,
  };
}

function leaving({ leave, supervise, host }: WorkloadPolicies): ActivityOptions {
  return {
    heartbeatTimeout: leave.heartbeatMs,
    scheduleToStartTimeout: Math.max(leave.scheduleToCloseMs, host.scheduleToStartMs),
    scheduleToCloseTimeout: leave.scheduleToCloseMs,
    retry: { initialInterval: supervise.backoffMs, maximumInterval: supervise.maxBackoffMs },
  };
}
