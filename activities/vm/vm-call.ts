import { type OwnerRef, workloadRef } from '../../domain/owner.ts';
import type { VmCall } from './vm-types.ts';

/** @returns whose VM a call is about, and the placement that it belongs to. */
export function ownerOfCall(call: VmCall): OwnerRef {
  return 'of' in call ? call.of : workloadRef(call.workloadId, call.epoch);
}
