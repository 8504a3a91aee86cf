/** Routes of the gateway itself: whether it is well, and what it can do. */
import { z } from 'zod';
import { readinessSchema } from '../readiness.ts';
import type { Route } from './route.ts';

export const OPERATION_ROUTES = {
  healthz: {
    method: 'GET',
    path: '/healthz',
    tag: 'service',
    summary: 'Whether the gateway runs',
    open: true,
    responses: { 200: z.object({ status: z.literal('ok') }) },
  },
  readyz: {
    method: 'GET',
    path: '/readyz',
    tag: 'service',
    summary: 'Whether a workload created now would run: store, Temporal, a control worker, a host',
    open: true,
    responses: { 200: readinessSchema, 503: readinessSchema },
  },
  metrics: {
    method: 'GET',
    path: '/metrics',
    tag: 'service',
    summary: 'Metrics of the gateway as Prometheus text',
    content: 'text/plain',
  },
  openapi: {
    method: 'GET',
    path: '/openapi.json',
    tag: 'service',
    summary: 'This document',
    open: true,
    content: 'application/json',
  },
  docs: {
    method: 'GET',
    path: '/docs',
    tag: 'service',
    summary: 'This document for people',
    open: true,
    content: 'text/html',
  },
} as const satisfies Record<string, Route>;
