import type { Client } from '@temporalio/client';
import { workloadWorkflowId } from '../../../domain/names.ts';

/** @returns whether a host worker supervises the workload, which can be a moment later than its stage `running` */
export async function isWatched(temporal: Client, workloadId: string): Promise<boolean> {
  const { raw } = await temporal.workflow.getHandle(workloadWorkflowId(workloadId)).describe();
  const watches = raw.pendingActivities?.find(({ activityType }) => activityType?.name === 'superviseVm');
  return watches?.lastStartedTime != null;
}
