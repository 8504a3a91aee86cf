/**
 * The one table of the REST API: it makes the server's routes and checks, the typed client and the OpenAPI document.
 * Paths are in the server's form, `:name` for a parameter.
 */
import { z } from 'zod';
import {
  deploymentIdSchema,
  hostIdSchema,
  projectIdSchema,
  sha256Schema,
  stageSchema,
  workloadIdSchema,
} from '../identifiers.ts';
import { hostDrainSchema, hostListSchema } from '../store/host-entry.ts';
import { cursorSchema } from './cursor.ts';
import { createDeploymentBodySchema, deploymentPageSchema, deploymentSchema } from './deployment.ts';
import { imageListSchema } from './image.ts';
import { logFilterSchema, logPageSchema } from './log-page.ts';
import { recordReplySchema } from './maintenance.ts';
import { poolListSchema } from './pool.ts';
import { readinessSchema } from './readiness.ts';
import { GZIP_TYPE, TAR_TYPE, uploadedSourceSchema } from './source.ts';
import { createWorkloadBodySchema } from './workload-request.ts';
import { workloadHistorySchema, workloadPageSchema, workloadViewSchema } from './workload-view.ts';

export interface Route {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly tag: 'workloads' | 'sources' | 'deployments' | 'hosts and images' | 'service';
  readonly summary: string;
  readonly description?: string;
  /** Whether it answers without a token. */
  readonly open?: true;
  readonly params?: z.ZodObject;
  readonly query?: z.ZodObject;
  readonly body?: z.ZodType;
  /** Media types of a body of bytes, read as it comes; no route has both. */
  readonly upload?: readonly string[];
  /** JSON bodies by status. Every other status answers with a problem document. */
  readonly responses?: Readonly<Record<number, z.ZodType>>;
  /** Media type of a 200 that is no JSON. */
  readonly content?: 'text/event-stream' | 'text/html' | 'text/plain' | 'application/json';
}

export const MAX_PAGE = 200;
export const MAX_LOG_PAGE = 1000;
/** Longest time that a stop waits for its end, ms. */
export const MAX_STOP_WAIT_MS = 30_000;

const pageLimit = (most: number, preset: number) => z.coerce.number().int().min(1).max(most).default(preset);
const workloadParams = z.object({ id: workloadIdSchema });
const deploymentParams = z.object({ id: deploymentIdSchema });

export const stopBodySchema = z
  .strictObject({
    reason: z.string().max(500).exactOptional(),
    waitMs: z
      .int()
      .min(0)
      .max(MAX_STOP_WAIT_MS)
      .default(MAX_STOP_WAIT_MS)
      .meta({ description: 'How long to wait for the final stage, ms.' }),
  })
  .prefault({});

export const ROUTES = {
  createWorkload: {
    method: 'POST',
    path: '/api/workloads',
    tag: 'workloads',
    summary: 'Run a service in a microVM of its own',
    description:
      'Find-or-create by `id`: the same id with the same body answers for the same workload, for ever (200); with another body it is a CONFLICT (409). Without an id one is minted.',
    body: createWorkloadBodySchema,
    responses: { 200: workloadViewSchema, 201: workloadViewSchema },
  },
  listWorkloads: {
    method: 'GET',
    path: '/api/workloads',
    tag: 'workloads',
    summary: 'List workloads, newest first',
    description:
      "Covers what Temporal remembers; older workloads are still answered by id. The list follows a workload's moves with a short delay. `attention` is gone once what it says is mended.",
    query: z.object({
      stage: stageSchema.exactOptional(),
      deploymentId: deploymentIdSchema.exactOptional(),
      projectId: projectIdSchema.exactOptional(),
      cursor: cursorSchema.exactOptional().meta({ description: '`next` of the page before.' }),
      limit: pageLimit(MAX_PAGE, 50),
    }),
    responses: { 200: workloadPageSchema },
  },
  getWorkload: {
    method: 'GET',
    path: '/api/workloads/:id',
    tag: 'workloads',
    summary: 'One workload with its moves and the end of its log',
    params: workloadParams,
    responses: { 200: workloadViewSchema },
  },
  stopWorkload: {
    method: 'POST',
    path: '/api/workloads/:id/stop',
    tag: 'workloads',
    summary: 'Stop a workload',
    description:
      'Idempotent. 200 with the final state once it is reached, 202 with the true one where that takes longer than `waitMs`.',
    params: workloadParams,
    body: stopBodySchema,
    responses: { 200: workloadViewSchema, 202: workloadViewSchema },
  },
  workloadHistory: {
    method: 'GET',
    path: '/api/workloads/:id/history',
    tag: 'workloads',
    summary: 'The moves of a workload, folded from its recorded events',
    description:
      'Judged by the rules that the workflow ran under. Once Temporal has forgotten the workload, its events come from the archive (`source`), checked against what was recorded. Without `events` they were forgotten before they were recorded: then the moves are those that the result tells.',
    params: workloadParams,
    responses: { 200: workloadHistorySchema },
  },
  workloadLogs: {
    method: 'GET',
    path: '/api/workloads/:id/logs',
    tag: 'workloads',
    summary: 'A page of the log',
    description:
      'Oldest first. Each line comes once, whoever wrote it; `cursor` goes on where the page ended. `level` is the least grave one that is wanted. With `stage` or `level` a page looks at a bounded number of lines: it may be empty and still say `more`.',
    params: workloadParams,
    query: logFilterSchema.extend({ after: cursorSchema.exactOptional(), limit: pageLimit(MAX_LOG_PAGE, 500) }),
    responses: { 200: logPageSchema },
  },
  streamWorkloadLogs: {
    method: 'GET',
    path: '/api/workloads/:id/logs/stream',
    tag: 'workloads',
    summary: 'The log as it is written, as server-sent events',
    description:
      'Events `log` (a log entry; its event id is a cursor, also for `Last-Event-ID` and `after`) and, once the workload is over and everything was sent, `end` with its stage. A reader that is too slow is cut off and goes on by its last event id.',
    params: workloadParams,
    query: logFilterSchema.extend({ after: cursorSchema.exactOptional() }),
    content: 'text/event-stream',
  },
  uploadSource: {
    method: 'POST',
    path: '/api/sources',
    tag: 'sources',
    summary: 'Upload the sources of a service as a tar',
    description:
      'Find-or-create by digest: 201 where the sources are new, 200 where they were stored already. The digest is that of the tar itself, also where it comes compressed. Files, folders and symbolic links that stay inside are taken; everything else is refused by name.',
    query: z.object({
      sha256: sha256Schema.exactOptional().meta({ description: 'What the digest must be; refused where it differs.' }),
    }),
    upload: [TAR_TYPE, GZIP_TYPE],
    responses: { 200: uploadedSourceSchema, 201: uploadedSourceSchema },
  },
  getSource: {
    method: 'GET',
    path: '/api/sources/:sha256',
    tag: 'sources',
    summary: 'Whether sources are stored, whole',
    params: z.object({ sha256: sha256Schema }),
    responses: { 200: uploadedSourceSchema },
  },
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
  recordArchive: {
    method: 'POST',
    path: '/api/archive/record',
    tag: 'service',
    summary: 'Archive now what is over',
    description:
      'One run of what the Schedule `kiln-maintenance` does again and again: the whole history of each workload that is over goes to the archive, and hosts say what they have freed. Removes nothing. 202 where it takes longer than `waitMs`; it goes on. Two callers at a time share one run.',
    body: z.strictObject({ waitMs: z.int().min(0).max(MAX_STOP_WAIT_MS).default(MAX_STOP_WAIT_MS) }).prefault({}),
    responses: { 200: recordReplySchema, 202: recordReplySchema },
  },
  listPools: {
    method: 'GET',
    path: '/api/pool',
    tag: 'hosts and images',
    summary: 'Pools of ready VMs: settings, statistics and inventory of each host',
    description: 'As the hosts last told, at `at`. Counters begin with the host worker; durations are in ms.',
    responses: { 200: poolListSchema },
  },
  listImages: {
    method: 'GET',
    path: '/api/images',
    tag: 'hosts and images',
    summary: 'Published guest images',
    responses: { 200: imageListSchema },
  },
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

export type Routes = typeof ROUTES;
export type RouteName = keyof Routes;

/** Routes that answer with JSON of a schema; the others are documents and streams. */
export type JsonRouteName = {
  [Name in RouteName]: Routes[Name] extends { responses: object } ? Name : never;
}[RouteName];

/** Routes whose body is bytes. */
export type UploadRouteName = {
  [Name in RouteName]: Routes[Name] extends { upload: readonly string[] } ? Name : never;
}[RouteName];

type Parsed<R, Part extends string> =
  R extends Record<Part, infer Schema extends z.ZodType> ? { [P in Part]: z.output<Schema> } : unknown;
type Given<R, Part extends string> =
  R extends Record<Part, infer Schema extends z.ZodType>
    ? Record<string, never> extends z.input<Schema>
      ? { [P in Part]?: z.input<Schema> }
      : { [P in Part]: z.input<Schema> }
    : unknown;
/** A body may be left out only where its schema says so: one whose parts are all optional may need one of them. */
type GivenBody<R> =
  R extends Record<'body', infer Schema extends z.ZodType>
    ? undefined extends z.input<Schema>
      ? { body?: z.input<Schema> }
      : { body: z.input<Schema> }
    : unknown;

/** What a handler is given: everything checked, defaults filled in. */
export type RouteInput<Name extends RouteName> = Parsed<Routes[Name], 'params'> &
  Parsed<Routes[Name], 'query'> &
  Parsed<Routes[Name], 'body'>;

/** What a caller has to say. */
export type RouteRequest<Name extends RouteName> = Given<Routes[Name], 'params'> &
  Given<Routes[Name], 'query'> &
  GivenBody<Routes[Name]>;

type Responses<Name extends JsonRouteName> = Routes[Name]['responses'];

/** What a handler answers. */
export type RouteReply<Name extends JsonRouteName> = {
  [Status in keyof Responses<Name>]: {
    readonly status: Status;
    readonly body: Responses<Name>[Status] extends z.ZodType ? z.output<Responses<Name>[Status]> : never;
  };
}[keyof Responses<Name>];
