import { isKilnError } from '../../domain/failures.ts';
import type { CapacityLedger, VmHost } from '../../ports/host.ts';
import type { OwnerLogs } from '../../ports/logs.ts';
import { framed } from '../activity-frame.ts';
import { callerOf, ownerOfCall } from './vm-call.ts';
import type { VmActivities, VmCall } from './vm-types.ts';

interface Ports {
  readonly vms: Pick<VmHost, 'release' | 'assertOwner'>;
  readonly ledger: Pick<CapacityLedger, 'release'>;
  readonly logs: Pick<OwnerLogs, 'ship'>;
}

/** A VM that has come to another owner is gone for this one. */
async function isOwn({ vms }: Ports, vmId: string, call: VmCall): Promise<boolean> {
  try {
    await vms.assertOwner(vmId, callerOf(call));
    return true;
  } catch (error) {
    if (isKilnError(error, 'CONFLICT')) return false;
    throw error;
  }
}

/** Releases VMs, then the reservation. Each VM is proven gone; logs are shipped, or stay in the spool for later. */
export function createReleaseVm(ports: Ports): VmActivities['releaseVm'] {
  return ({ vmIds, reservationId, graceMs, ...call }) =>
    framed(async () => {
      const own: string[] = [];
      for (const vmId of vmIds) if (await isOwn(ports, vmId, call)) own.push(vmId);
      for (const vmId of own) await ports.vms.release(vmId, { graceMs });
      if (reservationId !== undefined) await ports.ledger.release(reservationId);
      // While the store is away the shipper sends the rest later: a log must not delay a release.
      await ports.logs.ship(ownerOfCall(call)).catch(() => undefined);
      return { released: [...own, ...(reservationId === undefined ? [] : [reservationId])] };
    });
}
