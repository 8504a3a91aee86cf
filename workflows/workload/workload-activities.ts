import { ActivityCancellationType, type ActivityOptions, proxyActivities } from '@temporalio/workflow';
import type { ControlActivities, HostActivities } from '../../activities/activity-types.ts';
import type { BookActivities, ServiceActivities } from '../../activities/workload/service-types.ts';
import type { WorkloadPolicies } from '../../domain/policies.ts';
import {
  controlOptions,
  hostOptions,
  leavingOptions,
  placementActivities,
  vmActivities,
} from '../placed/vm-activities.ts';

const { TRY_CANCEL } = ActivityCancellationType;

/** Activities that any control worker runs. */
export function controlActivities(policies: WorkloadPolicies): ControlActivities {
  return {
    ...placementActivities(policies),
    // Without the result document the record would end with Temporal's retention: retried until it is written.
    closeBooks: proxyActivities<BookActivities>(controlOptions('archive the outcome', policies)).closeBooks,
  };
}

/** Activities of one host. */
export function hostActivities(hostId: string, policies: WorkloadPolicies): HostActivities {
  return { ...vmActivities(hostId, policies), ...serviceActivities(hostId, policies) };
}

function serviceActivities(hostId: string, policies: WorkloadPolicies): ServiceActivities {
  const { validate, build, deploy, supervise, leave } = policies;
  const on = (summary: string, startToCloseMs: number, more: ActivityOptions = {}) =>
    proxyActivities<ServiceActivities>({ ...hostOptions(summary, hostId, startToCloseMs, policies), ...more });
  const beating = { heartbeatTimeout: deploy.heartbeatMs };
  return {
    validateService: on('validate the service', validate.startToCloseMs, {
      cancellationType: TRY_CANCEL,
      retry: { maximumAttempts: validate.tries },
    }).validateService,
    buildService: on('build', build.startToCloseMs, { heartbeatTimeout: build.heartbeatMs }).buildService,
    startService: on('start the service', deploy.startMs, beating).startService,
    checkHealth: (input) => {
      // The service's own start period decides and ends with HEALTH_FAILED; this limit is for a worker that hangs.
      const limitMs = input.manifest.health.startPeriodMs + deploy.healthMarginMs;
      return on('wait until it is healthy', limitMs, beating).checkHealth(input);
    },
    superviseVm: on('running', supervise.startToCloseMs, {
      heartbeatTimeout: supervise.heartbeatMs,
      // A supervisor holds nothing, so its cancellation does not wait.
      cancellationType: TRY_CANCEL,
    }).superviseVm,
    stopService: on('stop the service', leave.startToCloseMs, leavingOptions(policies)).stopService,
  };
}
