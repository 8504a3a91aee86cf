/** Where a workload's VM comes from the pool: before disks are made for it. */
import { guestKindOf } from '../../domain/guest-kind.ts';
import type { InstanceStore } from '../../vmm/instance-record.ts';
import type { ProvisionRequest } from '../vms/provisioning.ts';
import type { VmPool } from './vm-pool.ts';

/** @returns what hands a pooled VM to whoever provisions one of its kind; one that is there already is only found */
export function claimFor(
  pool: VmPool,
  records: Pick<InstanceStore, 'read'>,
): (request: ProvisionRequest) => Promise<boolean> {
  return async ({ vmId, owner, imageDigest, resources, signal }) => {
    if (!pool.enabled || owner.role === 'pool' || (await records.read(vmId)) !== undefined) return false;
    return pool.take(guestKindOf({ imageDigest, resources, projectId: owner.projectId }), { vmId, owner }, signal);
  };
}
