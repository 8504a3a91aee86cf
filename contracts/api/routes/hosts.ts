/** Routes of hosts. */
import { z } from 'zod';
import { hostIdSchema } from '../../identifiers.ts';
import { hostDrainSchema, hostListSchema } from '../../store/host-entry.ts';
import type { Route } from './route.ts';

export const HOST_ROUTES = {
  listHosts: {
    method: 'GET',
    path: '/api/hosts',
    tag: 'hosts and images',
    summary: 'Machines that run workloads, as they last registered',
    responses: { 200: hostListSchema },
  },
  drainHost: {
    method: 'POST',
    path: '/api/hosts/:hostId/drain',
    tag: 'hosts and images',
    summary: 'Let a host take no new workloads, or take them again',
    description:
      'The host obeys with its next registration, a few seconds later. What runs there stays; stop it, or wait for its end.',
    params: z.object({ hostId: hostIdSchema }),
    body: z
      .strictObject({
        draining: z.boolean().default(true).meta({ description: 'false: it takes new workloads again.' }),
      })
      .prefault({}),
    responses: { 200: hostDrainSchema },
  },
} as const satisfies Record<string, Route>;
