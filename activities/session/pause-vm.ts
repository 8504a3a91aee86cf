import type { SessionPorts } from '../../ports/runs.ts';
import { framed } from '../activity-frame.ts';
import type { SessionHostActivities } from './session-types.ts';

/** Stops the guest's CPUs. */
export function createPauseVm({ vms }: Pick<SessionPorts, 'vms'>): SessionHostActivities['pauseVm'] {
  return ({ vmId }) => framed((signal) => vms.pause(vmId, signal));
}

/** Says what the guest may reach from now on. */
export function createSetEgress({ vms }: Pick<SessionPorts, 'vms'>): SessionHostActivities['setEgress'] {
  return ({ vmId, egress }) => framed((signal) => vms.setEgress(vmId, egress, signal));
}

/** Lets the guest go on. */
export function createResumeVm({ vms }: Pick<SessionPorts, 'vms'>): SessionHostActivities['resumeVm'] {
  return ({ vmId, deadlineMs, waitMs }) => framed((signal) => vms.resume(vmId, { deadlineMs, waitMs, signal }));
}
