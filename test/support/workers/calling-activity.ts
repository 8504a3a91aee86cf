import { Context } from '@temporalio/activity';
import { workloadIdOf } from '../../../domain/names.ts';
import type { Caller } from './port-gates.ts';

/** @returns the workload and activity in which the caller runs; empty outside of an activity */
export function callingActivity(): Caller {
  try {
    const { workflowExecution, activityType } = Context.current().info;
    const workloadId = workflowExecution === undefined ? undefined : workloadIdOf(workflowExecution.workflowId);
    return workloadId === undefined ? { activity: activityType } : { workloadId, activity: activityType };
  } catch {
    return {};
  }
}
