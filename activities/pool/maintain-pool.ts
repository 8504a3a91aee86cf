import { poolRound } from '../../domain/pool/pool-round.ts';
import type { PoolMaintenance } from '../../ports/host.ts';
import { framed } from '../activity-frame.ts';
import type { PoolActivities } from './pool-types.ts';

/** One round of the host's pool. Sends heartbeats, because it may have to make a template. */
export function createMaintainPool({ pool }: { readonly pool: PoolMaintenance }): PoolActivities['maintainPool'] {
  return () => framed(async (signal) => poolRound(await pool.maintain(signal)));
}
