/** Where a workload's VM comes from the pool: before disks are made for it, and before it is booted. */
import type { VmDriver } from '../../activities/ports.ts';
import type { InstanceStore } from '../../vmm/instance-record.ts';
import type { ProvisionRequest } from '../vm-provisioning.ts';
import type { PausingVms } from './driver-pooled-vms.ts';
import type { VmPool } from './vm-pool.ts';

/** @returns what hands a pooled VM to whoever provisions one of its kind; one that is there already is only found */
export function claimFor(
  pool: VmPool,
  records: Pick<InstanceStore, 'read'>,
): (request: ProvisionRequest) => Promise<boolean> {
  return async ({ vmId, owner, imageDigest, resources }) => {
    if (!pool.enabled || owner.role === 'pool' || (await records.read(vmId)) !== undefined) return false;
    const { vcpus, memMib } = resources;
    const { projectId } = owner;
    const key = { imageDigest, vcpus, memMib, ...(projectId === undefined ? {} : { projectId }) };
    return pool.take(key, { vmId, owner });
  };
}

/** @returns what lets a VM that was paused go on, with the right time; one that runs is left as it is */
export function wakerOf(driver: Pick<VmDriver, 'status'>, pausing: PausingVms): (vmId: string) => Promise<void> {
  return async (vmId) => {
    if ((await driver.status(vmId)).state === 'paused') await pausing.resume(vmId, { wallClockMs: Date.now() });
  };
}
