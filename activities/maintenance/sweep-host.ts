import type { HostUpkeep } from '../../ports/maintenance.ts';
import { framed } from '../activity-frame.ts';
import type { HostUpkeepActivities } from './maintenance-types.ts';

/** The host's own timer sweeps as well; here it is asked, so that it can be seen, and says what came of it. */
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
