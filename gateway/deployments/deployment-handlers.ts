/** Routes of deployments: documents in the store. */
import { z } from 'zod';
import { decodeCursor, encodeCursor } from '../../contracts/api/cursor.ts';
import { deploymentIdSchema } from '../../contracts/identifiers.ts';
import { KilnError } from '../../domain/failures.ts';
import { createDeployments } from '../../store/deployments/deployments.ts';
import type { ObjectStore } from '../../store/object-store.ts';
import type { RouteHandlers } from '../route-binding.ts';

type DeploymentRoutes = 'createDeployment' | 'listDeployments' | 'getDeployment';

const pageCursor = z.object({ after: deploymentIdSchema });

/** @param mintId makes ids for deployments that are sent without one */
export function deploymentHandlers(store: ObjectStore, mintId: () => string): Pick<RouteHandlers, DeploymentRoutes> {
  const deployments = createDeployments(store);
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
  };
}
