import { isKilnError } from '../../domain/failures.ts';
import { workloadRef } from '../../domain/owner.ts';
import type { ServiceExit } from '../../domain/workload/workload.ts';
import type { OwnerLogs } from '../../ports/logs.ts';
import type { GuestServices } from '../../ports/services.ts';
import { framed } from '../activity-frame.ts';
import type { ServiceActivities } from './service-types.ts';

interface Ports {
  readonly services: GuestServices;
  readonly logs: Pick<OwnerLogs, 'open'>;
}

/** Ends the service gently, then by force. If the service has ended or its VM is gone, reports that. */
export function createStopService(ports: Ports): ServiceActivities['stopService'] {
  return ({ workloadId, epoch, vmId, graceMs }) =>
    framed(async () => {
      const log = await ports.logs.open(workloadRef(workloadId, epoch));
      log.write('running', 'info', 'stopping the service');
      const exit = await stop(ports, vmId, graceMs);
      const how = exit.signal ?? (exit.code === null ? 'unknown' : `code ${exit.code}`);
      log.write('running', 'info', `service ended with ${how}`);
      // On a full disk the lines stay pending: an activity that makes room must not wait for room.
      await log.flush().catch(() => undefined);
      return { exit };
    });
}

async function stop(ports: Ports, vmId: string, graceMs: number): Promise<ServiceExit> {
  try {
    const { code, signal } = await ports.services.stop(vmId, { graceMs });
    return { code, signal, reason: 'stopped' };
  } catch (error) {
    if (isKilnError(error, 'VMM_EXITED', 'NOT_FOUND', 'GUEST_CRASHED')) {
      return { code: null, signal: null, reason: 'vm-lost' };
    }
    throw error;
  }
}
