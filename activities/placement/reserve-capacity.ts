import type { CapacityLedger } from '../../ports/host.ts';
import { short } from '../activity-frame.ts';
import type { HostActivities } from '../activity-types.ts';

/** Reserves capacity under a name that the workflow minted; the same name again renews it. */
export function createReserveCapacity(ports: { ledger: CapacityLedger }): HostActivities['reserveCapacity'] {
  return ({ reservationId, ownerWorkflowId, resources, ttlMs }) =>
    short(async () => ({
      reserved: await ports.ledger.reserve({ id: reservationId, ownerWorkflowId, resources, ttlMs }),
    }));
}
