import { Context } from '@temporalio/activity';
import { workloadIdOf } from '../../../domain/names.ts';
import type { Caller } from './port-gates.ts';

/** @returns for which workload, and in which activity, the code that asks is running; nothing outside of one */
export function callingActivity(): Caller {
  try {
    const { workflowExecution, activityType } = Context.current().info;
    const workloadId = workflowExecution === undefined ? undefined : workloadIdOf(workflowExecution.workflowId);
    return workloadId === undefined ? { activity: activityType } : { workloadId, activity: activityType };
  } catch {
    return {};
  }
}
