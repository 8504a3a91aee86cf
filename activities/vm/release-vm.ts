import type { CapacityLedger, VmHost } from '../../ports/host.ts';
import type { OwnerLogs } from '../../ports/logs.ts';
import { framed } from '../activity-frame.ts';
import { ownerOfCall } from './vm-call.ts';
import type { VmActivities } from './vm-types.ts';

interface Ports {
  readonly vms: Pick<VmHost, 'release'>;
  readonly ledger: Pick<CapacityLedger, 'release'>;
  readonly logs: Pick<OwnerLogs, 'ship'>;
}

/** Releases VMs, then the reservation. Each VM is proven gone; logs are shipped, or stay in the spool for later. */
export function createReleaseVm(ports: Ports): VmActivities['releaseVm'] {
  return ({ vmIds, reservationId, graceMs, ...call }) =>
    framed(async () => {
      for (const vmId of vmIds) await ports.vms.release(vmId, { graceMs });
      if (reservationId !== undefined) await ports.ledger.release(reservationId);
      // While the store is away the shipper sends the rest later: a log must not delay a release.
      await ports.logs.ship(ownerOfCall(call)).catch(() => undefined);
      return { released: [...vmIds, ...(reservationId === undefined ? [] : [reservationId])] };
    });
}
