import type { Client } from '@temporalio/client';
import { workloadWorkflowId } from '../../../domain/names.ts';

/** @returns whether a host worker has taken up the supervision of a workload, which may be a moment after it runs */
export async function isWatched(temporal: Client, workloadId: string): Promise<boolean> {
  const { raw } = await temporal.workflow.getHandle(workloadWorkflowId(workloadId)).describe();
  const watches = raw.pendingActivities?.find(({ activityType }) => activityType?.name === 'superviseVm');
  return watches?.lastStartedTime != null;
}
