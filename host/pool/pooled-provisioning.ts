/** Takes a workload's VM from the pool, before disks are made for it. */
import { guestKindOf } from '../../domain/guest-kind.ts';
import type { InstanceStore } from '../../vmm/instance-record.ts';
import type { ProvisionRequest } from '../vms/provisioning.ts';
import type { VmPool } from './vm-pool.ts';

/** @returns a function that gives a pooled VM to a request of its kind; a VM that is there already is only found */
export function claimFor(
  pool: VmPool,
  records: Pick<InstanceStore, 'read'>,
): (request: ProvisionRequest) => Promise<boolean> {
  return async ({ vmId, owner, imageDigest, resources, signal }) => {
    if (!pool.enabled || owner.role === 'pool' || (await records.read(vmId)) !== undefined) return false;
    return pool.take(guestKindOf({ imageDigest, resources, projectId: owner.projectId }), { vmId, owner }, signal);
  };
}
