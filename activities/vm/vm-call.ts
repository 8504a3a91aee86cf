import { Context } from '@temporalio/activity';
import { defined } from '../../domain/defined.ts';
import { type OwnerRef, workloadRef } from '../../domain/owner.ts';
import type { VmCall } from './vm-types.ts';

/** Who calls, as a VM's record names its owner. */
export interface Caller {
  readonly workflowId: string;
  readonly epoch: number;
  readonly firstExecutionId?: string;
}

/** @returns the workflow that makes this call, at its placement. Only within an activity. */
export function callerOf(call: VmCall): Caller {
  const workflowId = Context.current().info.workflowExecution?.workflowId ?? '';
  const { epoch } = ownerOfCall(call);
  return { workflowId, epoch, ...defined({ firstExecutionId: call.firstExecutionId }) };
}

/** @returns the owner of the VM that a call is about, at its placement. */
export function ownerOfCall(call: VmCall): OwnerRef {
  return 'of' in call ? call.of : workloadRef(call.workloadId, call.epoch);
}
