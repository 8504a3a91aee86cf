/** Routes of deployments. */
import { z } from 'zod';
import { deploymentIdSchema } from '../../identifiers.ts';
import { cursorSchema } from '../cursor.ts';
import { createDeploymentBodySchema, deploymentPageSchema, deploymentSchema } from '../deployment.ts';
import { MAX_PAGE, pageLimit, type Route } from './route.ts';

const deploymentParams = z.object({ id: deploymentIdSchema });

export const DEPLOYMENT_ROUTES = {
  createDeployment: {
    method: 'POST',
    path: '/api/deployments',
    tag: 'deployments',
    summary: 'Record a deployment that workloads may name',
    body: createDeploymentBodySchema,
    responses: { 200: deploymentSchema, 201: deploymentSchema },
  },
  listDeployments: {
    method: 'GET',
    path: '/api/deployments',
    tag: 'deployments',
    summary: 'List deployments by id',
    query: z.object({ cursor: cursorSchema.exactOptional(), limit: pageLimit(MAX_PAGE, 50) }),
    responses: { 200: deploymentPageSchema },
  },
  getDeployment: {
    method: 'GET',
    path: '/api/deployments/:id',
    tag: 'deployments',
    summary: 'One deployment',
    params: deploymentParams,
    responses: { 200: deploymentSchema },
  },
} as const satisfies Record<string, Route>;
