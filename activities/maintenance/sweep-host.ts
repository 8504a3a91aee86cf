import type { HostUpkeep } from '../../ports/maintenance.ts';
import { framed } from '../activity-frame.ts';
import type { HostUpkeepActivities } from './maintenance-types.ts';

/** The host also sweeps by its own timer; this sweep is visible in Temporal and reports its result. */
export function createSweepHost(ports: {
  upkeep: HostUpkeep;
  vms: { readonly hostId: string };
}): HostUpkeepActivities['sweepHost'] {
  return ({ workloadIds }) =>
    framed(async () => {
      const { destroyed } = await ports.upkeep.sweep();
      const { freed, held } = await ports.upkeep.settleFreed(workloadIds);
      return {
        hostId: ports.vms.hostId,
        swept: true,
        destroyed: destroyed.length,
        freed: freed.length,
        held: held.length,
      };
    });
}
