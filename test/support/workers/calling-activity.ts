import { Context } from '@temporalio/activity';
import { sessionNameOf, workloadIdOf } from '../../../domain/names.ts';
import type { Caller } from './port-gates.ts';

/** @returns the workload or thread, and the activity, in which the caller runs; empty outside of an activity */
export function callingActivity(): Caller {
  try {
    const { workflowExecution, activityType } = Context.current().info;
    const workflowId = workflowExecution?.workflowId ?? '';
    const workloadId = workloadIdOf(workflowId) ?? sessionNameOf(workflowId)?.thread;
    return workloadId === undefined ? { activity: activityType } : { workloadId, activity: activityType };
  } catch {
    return {};
  }
}
