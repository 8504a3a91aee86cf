/** Routes of hosts and their pools, as the hosts last reported. */
import { poolListSchema } from '../../contracts/api/pool.ts';
import { KilnError } from '../../domain/failures.ts';
import { createHostDirectory } from '../../store/hosts/host-directory.ts';
import { writeHostDrain } from '../../store/hosts/host-drains.ts';
import { listPools } from '../../store/hosts/pool-directory.ts';
import type { ObjectStore } from '../../store/object-store.ts';
import type { RouteHandlers } from '../route-binding.ts';

type HostRoutes = 'listHosts' | 'drainHost' | 'listPools';

/** @returns handlers that read and write the store; the hosts act on what they find there. */
export function hostHandlers(store: ObjectStore): Pick<RouteHandlers, HostRoutes> {
  const hosts = createHostDirectory(store);
  return {
    listHosts: async () => {
      const items = (await hosts.list()).map((host) => ({
        ...host,
        images: [...host.images],
        versions: { ...host.versions },
      }));
      return { status: 200, body: { items } };
    },
    drainHost: async ({ params: { hostId }, body: { draining } }) => {
      if ((await hosts.read(hostId)) === undefined) throw new KilnError('NOT_FOUND', `There is no host ${hostId}.`);
      const drain = { hostId, draining, at: new Date().toISOString() };
      await writeHostDrain(store, drain);
      return { status: 200, body: drain };
    },
    listPools: async () => ({ status: 200, body: poolListSchema.parse({ items: await listPools(store) }) }),
  };
}
