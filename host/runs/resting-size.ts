/** What a session's VM holds of its host: its full size while its guest runs, and what it really uses while it waits. */
import { KilnError } from '../../domain/failures.ts';
import { reservationId } from '../../domain/names.ts';
import type { CapacityLedger } from '../../ports/host.ts';
import type { VmDriver } from '../../ports/vm-driver.ts';
import type { InstanceStore } from '../../vmm/instance-record.ts';

const MIB = 1024 * 1024;
/** A paused VM still answers its monitor, and its share of shared pages grows as other VMs go. */
const MARGIN_MIB = 32;

export interface RestingSizeOptions {
  readonly ledger: Pick<CapacityLedger, 'reserve'>;
  readonly usage: VmDriver['usage'];
  readonly records: Pick<InstanceStore, 'read'>;
  /** Life of a reservation beyond that of its VM, ms. */
  readonly reservationTtlMs: number;
}

export interface RestingSize {
  /** The VM is paused: others may have its CPUs, and the memory that it does not use. */
  rest(vmId: string): Promise<void>;
  /** The VM is to go on. @throws NO_CAPACITY where its full size cannot be had now */
  wake(vmId: string): Promise<void>;
}

export function createRestingSize(options: RestingSizeOptions): RestingSize {
  const { ledger, usage, records, reservationTtlMs } = options;
  const reserve = async (
    vmId: string,
    sizeOf: (full: {
      vcpus: number;
      memMib: number;
    }) => Pick<Parameters<CapacityLedger['reserve']>[0], 'resources' | 'atRest'>,
  ): Promise<boolean> => {
    const record = await records.read(vmId);
    // Without a record there is no VM; whoever uses it next learns that.
    if (record === undefined) return true;
    const { workflowId, epoch } = record.owner;
    const id = reservationId(workflowId, epoch);
    const size = sizeOf({ vcpus: record.vcpus, memMib: record.memMib });
    return ledger.reserve({ id, ownerWorkflowId: workflowId, ...size, ttlMs: reservationTtlMs });
  };
  return {
    async rest(vmId) {
      const used = await usage(vmId);
      const bytes = used?.shareBytes ?? used?.memoryBytes;
      // What is not known stays reserved.
      if (bytes === undefined) return;
      const memMib = Math.ceil(bytes / MIB) + MARGIN_MIB;
      await reserve(vmId, () => ({ resources: { vcpus: 0, memMib }, atRest: true }));
    },
    async wake(vmId) {
      if (await reserve(vmId, (resources) => ({ resources }))) return;
      throw new KilnError('NO_CAPACITY', 'Its host has no room now for its VM to go on.', { vmId });
    },
  };
}
