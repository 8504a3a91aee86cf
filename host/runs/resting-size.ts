/** What a session's VM holds of its host: its full size while its guest runs, and what it really uses while it waits. */
import { KilnError } from '../../domain/failures.ts';
import { reservationId } from '../../domain/names.ts';
import type { Resources } from '../../domain/workload/workload.ts';
import type { CapacityLedger } from '../../ports/host.ts';
import type { VmDriver } from '../../ports/vm-driver.ts';
import type { InstanceStore } from '../../vmm/instance-record.ts';

const MIB = 1024 * 1024;
/** A paused VM still answers its monitor, and its share of shared pages grows as other VMs go. */
const MARGIN_MIB = 32;

export interface RestingSizeOptions {
  readonly ledger: Pick<CapacityLedger, 'reserve' | 'ahead' | 'freed'>;
  readonly usage: VmDriver['usage'];
  readonly records: Pick<InstanceStore, 'read'>;
  /** Life of a reservation beyond that of its VM, ms. */
  readonly reservationTtlMs: number;
  /** How long a VM keeps its place in the line without being asked for again, ms. */
  readonly placeMs: number;
}

export interface RestingSize {
  /** The VM is paused: others may have its CPUs, and the memory that it does not use. */
  rest(vmId: string): Promise<void>;
  /**
   * The VM is to go on. It waits in the host's line, for at most `waitMs`, and keeps its place in it for a while.
   * @throws NO_CAPACITY where its full size could not be had in this time
   */
  wake(vmId: string, options: { readonly waitMs: number; readonly signal: AbortSignal }): Promise<void>;
}

type SizeOf = (full: Resources) => Pick<Parameters<CapacityLedger['reserve']>[0], 'resources' | 'atRest' | 'waitsMs'>;

export function createRestingSize(options: RestingSizeOptions): RestingSize {
  const { ledger, usage, placeMs } = options;
  return {
    async rest(vmId) {
      const used = await usage(vmId);
      const bytes = used?.shareBytes ?? used?.memoryBytes;
      // What is not known stays reserved.
      if (bytes === undefined) return;
      const memMib = Math.ceil(bytes / MIB) + MARGIN_MIB;
      await reserve(options, vmId, () => ({ resources: { vcpus: 0, memMib }, atRest: true }));
    },
    async wake(vmId, { waitMs, signal }) {
      const waiting = new AbortController();
      const over = AbortSignal.any([signal, waiting.signal, AbortSignal.timeout(waitMs)]);
      try {
        for (;;) {
          const freed = ledger.freed(over).then(
            () => true,
            () => false,
          );
          const id = await reserve(options, vmId, (resources) => ({ resources, waitsMs: placeMs }));
          if (id === undefined) return;
          if (waitMs > 0 && (await freed)) continue;
          signal.throwIfAborted();
          throw noRoom(vmId, ledger.ahead(id));
        }
      } finally {
        waiting.abort();
      }
    },
  };
}

function noRoom(vmId: string, ahead: number): KilnError {
  const others = ahead === 0 ? '' : `; ${ahead} wait before it`;
  return new KilnError('NO_CAPACITY', `Its host has no room now for its VM to go on${others}.`, { vmId, ahead });
}

/** @returns the id of the reservation where that size does not fit now */
async function reserve(
  { ledger, records, reservationTtlMs }: RestingSizeOptions,
  vmId: string,
  sizeOf: SizeOf,
): Promise<string | undefined> {
  const record = await records.read(vmId);
  // Without a record there is no VM; whoever uses it next learns that.
  if (record === undefined) return undefined;
  const { workflowId, epoch } = record.owner;
  const id = reservationId(workflowId, epoch);
  const size = sizeOf({ vcpus: record.vcpus, memMib: record.memMib });
  const fits = await ledger.reserve({ id, ownerWorkflowId: workflowId, ...size, ttlMs: reservationTtlMs });
  return fits ? undefined : id;
}
