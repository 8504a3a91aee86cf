/** Deployments as plain records. */
import { type Deployment, deploymentSchema } from '../../contracts/api/deployment.ts';
import { KilnError } from '../../domain/failures.ts';
import { storeKeys } from '../../domain/names.ts';
import type { ObjectStore } from '../object-store.ts';
import { writeOnce } from '../write-once.ts';

export interface Deployments {
  /** Find-or-create by id. @throws CONFLICT where the id is taken by a record of another content */
  create(deployment: Deployment): Promise<Deployment>;
  get(id: string): Promise<Deployment | undefined>;
  /** Ordered by id. `after` and `next` are ids. */
  list(options: { after?: string; limit: number }): Promise<{ items: Deployment[]; next?: string }>;
}

/** @returns the deployments in a store. @throws STORE_UNAVAILABLE */
export function createDeployments(store: ObjectStore): Deployments {
  const read = async (key: string) => (await store.readDocument(key, deploymentSchema))?.value;
  return {
    get: (id) => read(storeKeys.deployment(id)),
    create: async (deployment) => {
      if (await writeOnce(store, storeKeys.deployment(deployment.id), deployment)) return deployment;
      const standing = await read(storeKeys.deployment(deployment.id));
      if (standing !== undefined && sameContent(standing, deployment)) return standing;
      throw new KilnError('CONFLICT', `The deployment ${deployment.id} exists with other content; choose another id.`);
    },
    list: async ({ after, limit }) => {
      const page = await store.list(storeKeys.deployments, {
        limit,
        ...(after === undefined ? {} : { after: storeKeys.deployment(after) }),
      });
      const found = await Promise.all(page.objects.map(({ key }) => read(key)));
      const items = found.filter((item) => item !== undefined);
      const last = items.at(-1);
      return { items, ...(page.next !== undefined && last !== undefined ? { next: last.id } : {}) };
    },
  };
}

function sameContent(a: Deployment, b: Deployment): boolean {
  return a.projectId === b.projectId && a.serviceName === b.serviceName && a.servicePath === b.servicePath;
}
