import type { HostCapacity } from '../../domain/capacity/host-entry.ts';
import type { Resources } from '../../domain/workload/workload.ts';
import type { HostCapacityLedger, Reservation } from '../capacity/ledger.ts';
import { isPoolOwner } from './driver-pooled-vms.ts';

/**
 * @returns the ledger for workloads: what pooled VMs hold counts as free, and is freed when somebody needs it
 * @param vmOverheadMib what each VM costs beyond its guest's memory
 * @param yieldToBoots destroys one pooled VM and frees its reservation; false where there is none to destroy
 */
export function createYieldingLedger(
  ledger: HostCapacityLedger,
  vmOverheadMib: number,
  yieldToBoots: () => Promise<boolean>,
): HostCapacityLedger {
  const totals = async (of?: string): Promise<{ capacity: HostCapacity; free: HostCapacity }> => {
    const { capacity, free } = await ledger.totals(of);
    const pooled = (await ledger.list()).filter(({ ownerWorkflowId }) => isPoolOwner(ownerWorkflowId));
    if (pooled.length === 0) return { capacity, free };
    return { capacity, free: { vcpus: free.vcpus + vcpusOf(pooled), memMib: freed(free, pooled, vmOverheadMib) } };
  };
  return {
    async reserve(request) {
      if (await ledger.reserve(request)) return true;
      if (isPoolOwner(request.ownerWorkflowId)) return false;
      // Destroys nothing for a request that it would not help.
      if (!fits(request.resources, (await totals(request.id)).free)) return false;
      while (await yieldToBoots()) if (await ledger.reserve(request)) return true;
      return ledger.reserve(request);
    },
    release: (id) => ledger.release(id),
    ahead: (id) => ledger.ahead(id),
    freed: (signal) => ledger.freed(signal),
    totals,
    list: () => ledger.list(),
    prune: () => ledger.prune(),
  };
}

function vcpusOf(pooled: readonly Reservation[]): number {
  return pooled.reduce((sum, { resources }) => sum + resources.vcpus, 0);
}

/** A host without room for a guest may also lack part of a VM's overhead: then one overhead is not promised. */
function freed(free: HostCapacity, pooled: readonly Reservation[], vmOverheadMib: number): number {
  const held = pooled.reduce((sum, { resources }) => sum + resources.memMib + vmOverheadMib, 0);
  return free.memMib > 0 ? free.memMib + held : Math.max(0, held - vmOverheadMib);
}

function fits(need: Resources, free: HostCapacity): boolean {
  return need.vcpus <= free.vcpus && need.memMib <= free.memMib;
}
