/** Routes of deployments, hosts and images: records of the store. */
import { z } from 'zod';
import { decodeCursor, encodeCursor } from '../contracts/api/cursor.ts';
import { imageViewSchema } from '../contracts/api/image.ts';
import { poolListSchema } from '../contracts/api/pool.ts';
import { deploymentIdSchema } from '../contracts/identifiers.ts';
import { KilnError } from '../domain/failures.ts';
import { storeKeys } from '../domain/names.ts';
import { createDeployments } from '../store/deployments/deployments.ts';
import { createHostDirectory } from '../store/hosts/host-directory.ts';
import { writeHostDrain } from '../store/hosts/host-drains.ts';
import { listPools } from '../store/hosts/pool-directory.ts';
import type { ObjectStore } from '../store/object-store.ts';
import type { RouteHandlers } from './route-binding.ts';

type RecordRoutes =
  | 'createDeployment'
  | 'listDeployments'
  | 'getDeployment'
  | 'listHosts'
  | 'drainHost'
  | 'listPools'
  | 'listImages';

const pageCursor = z.object({ after: deploymentIdSchema });

/** @param mintId makes ids of deployments that come without one */
export function recordHandlers(store: ObjectStore, mintId: () => string): Pick<RouteHandlers, RecordRoutes> {
  const deployments = createDeployments(store);
  const hosts = createHostDirectory(store);
  return {
    createDeployment: async ({ body: { id = mintId(), ...fields } }) => {
      const wanted = { id, ...fields, status: 'active' as const, createdAt: new Date().toISOString() };
      const standing = await deployments.create(wanted);
      return { status: standing === wanted ? 201 : 200, body: standing };
    },
    listDeployments: async ({ query: { cursor, limit } }) => {
      const after = cursor === undefined ? {} : decodeCursor(pageCursor, cursor);
      const { items, next } = await deployments.list({ ...after, limit });
      return { status: 200, body: { items, ...(next === undefined ? {} : { next: encodeCursor({ after: next }) }) } };
    },
    getDeployment: async ({ params: { id } }) => {
      const found = await deployments.get(id);
      if (found === undefined) throw new KilnError('NOT_FOUND', `There is no deployment ${id}.`, { id });
      return { status: 200, body: found };
    },
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
    listImages: async () => ({ status: 200, body: { items: await imagesOf(store) } }),
  };
}

async function imagesOf(store: ObjectStore): Promise<z.infer<typeof imageViewSchema>[]> {
  const items: z.infer<typeof imageViewSchema>[] = [];
  for await (const { key } of store.listAll(storeKeys.images)) {
    const found = await store.readDocument(key, imageViewSchema);
    if (found !== undefined) items.push(found.value);
  }
  return items;
}
