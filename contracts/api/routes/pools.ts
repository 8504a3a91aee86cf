/** Routes of pools of ready VMs. */
import { poolListSchema } from '../pool.ts';
import type { Route } from './route.ts';

export const POOL_ROUTES = {
  listPools: {
    method: 'GET',
    path: '/api/pool',
    tag: 'hosts and images',
    summary: 'Pools of ready VMs: settings, statistics and inventory of each host',
    description: 'As the hosts last told, at `at`. Counters begin with the host worker; durations are in ms.',
    responses: { 200: poolListSchema },
  },
} as const satisfies Record<string, Route>;
