import { type ActivityOptions, proxyActivities } from '@temporalio/workflow';
import type { HostUpkeepActivities, MaintenanceActivities } from '../../activities/maintenance/maintenance-types.ts';
import { hostQueue } from '../../domain/names.ts';
import type { MaintenancePolicies } from '../../domain/upkeep/maintenance.ts';

/** Activities that any control worker runs. Where one fails after all its tries, the next run does its work. */
export function controlMaintenance(policies: MaintenancePolicies): MaintenanceActivities {
  const make = (summary: string, more: ActivityOptions = {}) =>
    proxyActivities<MaintenanceActivities>({
      startToCloseTimeout: policies.activityMs,
      heartbeatTimeout: policies.heartbeatMs,
      retry: {
        maximumAttempts: policies.tries,
        initialInterval: policies.backoffMs,
        maximumInterval: policies.maxBackoffMs,
      },
      summary,
      ...more,
    });
  return {
    recorderPosition: make('where the last scan ended').recorderPosition,
    recordHistories: make('record the histories of what is over').recordHistories,
    saveRecorderPosition: make('everything until then is recorded').saveRecorderPosition,
    planSweeps: make('which hosts hold what they should not').planSweeps,
    pruneLogs: make('remove logs that are old').pruneLogs,
    pruneSources: make('remove sources that nobody needs').pruneSources,
    repairSaves: make('remove what no save of a session needs').repairSaves,
  };
}

/** The sweep of one host: tried once; the next run asks again. */
export function hostUpkeep(hostId: string, policies: MaintenancePolicies): HostUpkeepActivities {
  return proxyActivities<HostUpkeepActivities>({
    taskQueue: hostQueue(hostId),
    scheduleToStartTimeout: policies.hostAnswerMs,
    startToCloseTimeout: policies.sweepMs,
    heartbeatTimeout: policies.heartbeatMs,
    retry: { maximumAttempts: 1 },
    summary: `sweep (${hostId})`,
  });
}
