import { type OwnerRef, workloadRef } from '../../domain/owner.ts';
import type { VmCall } from './vm-types.ts';

/** @returns the owner of the VM that a call is about, at its placement. */
export function ownerOfCall(call: VmCall): OwnerRef {
  return 'of' in call ? call.of : workloadRef(call.workloadId, call.epoch);
}
