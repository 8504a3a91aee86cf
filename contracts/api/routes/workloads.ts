/** Routes of workloads. */
import { z } from 'zod';
import { deploymentIdSchema, projectIdSchema, stageSchema, workloadIdSchema } from '../../identifiers.ts';
import { cursorSchema } from '../cursor.ts';
import { logFilterSchema, logPageSchema } from '../log-page.ts';
import { createWorkloadBodySchema } from '../workload-request.ts';
import { workloadHistorySchema, workloadPageSchema, workloadViewSchema } from '../workload-view.ts';
import { MAX_LOG_PAGE, MAX_PAGE, MAX_WAIT_MS, pageLimit, type Route } from './route.ts';

const workloadParams = z.object({ id: workloadIdSchema });

const stopBodySchema = z
  .strictObject({
    reason: z.string().max(500).exactOptional(),
    waitMs: z
      .int()
      .min(0)
      .max(MAX_WAIT_MS)
      .default(MAX_WAIT_MS)
      .meta({ description: 'How long to wait for the final stage, ms.' }),
  })
  .prefault({});

export const WORKLOAD_ROUTES = {
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
} as const satisfies Record<string, Route>;
