import { isKilnError } from '../../domain/failures.ts';
import type { ServiceExit } from '../../domain/workload/workload.ts';
import type { CapacityLedger, VmHost } from '../../ports/host.ts';
import type { WorkloadLogs } from '../../ports/logs.ts';
import type { GuestServices } from '../../ports/services.ts';
import { framed } from '../activity-frame.ts';
import type { HostActivities } from '../activity-types.ts';

interface Ports {
  readonly vms: VmHost;
  readonly services: GuestServices;
  readonly ledger: CapacityLedger;
  readonly logs: WorkloadLogs;
}

/** Ends the service gently, then by force. One that has ended, or whose VM is gone, is told as it is. */
export function createStopService(ports: Ports): HostActivities['stopService'] {
  return ({ workloadId, epoch, vmId, graceMs }) =>
    framed(async () => {
      const log = await ports.logs.open(workloadId, epoch);
      log.write('running', 'info', 'stopping the service');
      const exit = await stop(ports, vmId, graceMs);
      const how = exit.signal ?? (exit.code === null ? 'unknown' : `code ${exit.code}`);
      log.write('running', 'info', `service ended with ${how}`);
      // The lines stay pending on a full disk: what makes room again must not wait for room.
      await log.flush().catch(() => undefined);
      return { exit };
    });
}

async function stop(ports: Ports, vmId: string, graceMs: number): Promise<ServiceExit> {
  try {
    const { code, signal } = await ports.services.stop(vmId, { graceMs });
    return { code, signal, reason: 'stopped' };
  } catch (error) {
    if (isKilnError(error, 'VMM_EXITED') || isKilnError(error, 'NOT_FOUND') || isKilnError(error, 'GUEST_CRASHED')) {
      return { code: null, signal: null, reason: 'vm-lost' };
    }
    throw error;
  }
}

/** Frees VMs, then the reservation. Each VM is proven gone; the logs are shipped, or stay in the spool for later. */
export function createReleaseVm(ports: Ports): HostActivities['releaseVm'] {
  return ({ workloadId, epoch, vmIds, reservationId, graceMs }) =>
    framed(async () => {
      for (const vmId of vmIds) await ports.vms.release(vmId, { graceMs });
      if (reservationId !== undefined) await ports.ledger.release(reservationId);
      // The shipper goes on with what is left when the store is away: a log must not hold up a release.
      await ports.logs.ship(workloadId, epoch).catch(() => undefined);
      return { released: [...vmIds, ...(reservationId === undefined ? [] : [reservationId])] };
    });
}
