import type { MaintenancePorts } from '../../ports/maintenance.ts';
import { framed } from '../activity-frame.ts';
import type { MaintenanceActivities } from './maintenance-types.ts';

/** Every registered host sweeps. A host that a workload left something on is also asked whether that is gone. */
export function createPlanSweeps(
  ports: Pick<MaintenancePorts, 'closed' | 'left' | 'hosts'>,
): MaintenanceActivities['planSweeps'] {
  return ({ maxUnreleased }) =>
    framed(async (signal) => {
      const plans = new Map<string, string[]>();
      for (const { hostId } of await ports.hosts.list()) plans.set(hostId, []);
      for (const workloadId of await ports.closed.listUnreleased(maxUnreleased)) {
        signal.throwIfAborted();
        for (const hostId of await stillHeldOn(ports, workloadId)) plans.get(hostId)?.push(workloadId);
      }
      return { hosts: [...plans].map(([hostId, workloadIds]) => ({ hostId, workloadIds })) };
    });
}

async function stillHeldOn({ left }: Pick<MaintenancePorts, 'left'>, workloadId: string): Promise<Set<string>> {
  const state = await left.result(workloadId);
  if (state === undefined || state.unreleased.length === 0) return new Set();
  const freed = (await left.releases(workloadId)).map(({ hostId }) => hostId);
  return new Set(state.unreleased.map(({ hostId }) => hostId).filter((hostId) => !freed.includes(hostId)));
}
