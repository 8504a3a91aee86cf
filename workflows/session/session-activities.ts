import { ActivityCancellationType, type ActivityOptions, proxyActivities } from '@temporalio/workflow';
import type { SessionBookActivities, SessionHostActivities } from '../../activities/session/session-types.ts';
import type { SessionPolicies } from '../../domain/policies.ts';
import { controlOptions, hostOptions, leavingOptions, vmActivities } from '../placed/vm-activities.ts';

const { TRY_CANCEL } = ActivityCancellationType;

/** Activities about what is on record of a session; tried until the store answers. */
export function bookActivities(policies: SessionPolicies): SessionBookActivities {
  const make = (summary: string) => proxyActivities<SessionBookActivities>(controlOptions(summary, policies));
  return {
    openSession: make('read the record of the session').openSession,
    findRun: make('was there a run of this id?').findRun,
    recordRuns: make('write down how runs ended').recordRuns,
    endSession: make('write down how the session ended').endSession,
  };
}

/** The resume of a VM whose files are all saved: its session goes elsewhere soon where nobody picks the call up. */
export function resumeOfSaved(hostId: string, policies: SessionPolicies): SessionHostActivities['resumeVm'] {
  const { host, control, run } = policies;
  const { scheduleToStartMs } = host.movesAfter;
  return proxyActivities<SessionHostActivities>({
    ...hostOptions('resume the VM', hostId, resumeMs({ control, run }), { host: { ...host, scheduleToStartMs } }),
    heartbeatTimeout: run.heartbeatMs,
  }).resumeVm;
}

/** It also waits there for room. */
const resumeMs = ({ control, run }: Pick<SessionPolicies, 'control' | 'run'>) =>
  2 * control.startToCloseMs + 2 * run.heartbeatMs;

/** Activities of the host of a session. */
export function sessionHostActivities(hostId: string, policies: SessionPolicies): SessionHostActivities {
  const { run, control, save } = policies;
  const on = (summary: string, startToCloseMs: number, more: ActivityOptions = {}) =>
    proxyActivities<SessionHostActivities>({ ...hostOptions(summary, hostId, startToCloseMs, policies), ...more });
  // A worker that dies in the middle is told by its heartbeats, long before the call took too long.
  const beating = { heartbeatTimeout: run.heartbeatMs };
  const saving = { heartbeatTimeout: save.heartbeatMs };
  const shortMs = control.startToCloseMs + 2 * run.heartbeatMs;
  return {
    ...vmActivities(hostId, policies),
    // The host ends a run at its own limit; this one is for a worker that hangs.
    runTurn: (input) => on(`run ${input.turn}`, input.timeoutMs + run.marginMs, beating).runTurn(input),
    cancelRun: on('cancel the run', control.startToCloseMs, leavingOptions(policies)).cancelRun,
    setEgress: on('what the guest may reach', shortMs, beating).setEgress,
    pauseVm: on('pause the VM', shortMs, beating).pauseVm,
    resumeVm: on('resume the VM', resumeMs(policies), beating).resumeVm,
    // One that is given up for a run must not hold that up, whatever the guest does; it has no effect any more.
    saveWorkspace: on('save the workspace', save.saveMs, { ...saving, cancellationType: TRY_CANCEL }).saveWorkspace,
    uploadSaves: on('bring the save into the store', save.uploadMs, saving).uploadSaves,
    restoreWorkspace: on('bring back the workspace', save.restoreMs, saving).restoreWorkspace,
  };
}
