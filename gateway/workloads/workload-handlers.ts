/** Routes of workloads. */

import type { FastifyReply, FastifyRequest } from 'fastify';
import type { WorkloadClient, WorkloadSnapshot } from '../../client/temporal/workloads/workload-client.ts';
import { decodeLogCursor, encodeLogCursor, type LogPositions } from '../../contracts/api/log-page.ts';
import { requestOf } from '../../contracts/api/workload-request.ts';
import { type WorkloadView, workloadView } from '../../contracts/api/workload-view.ts';
import type { VmUsageView } from '../../contracts/host/vm-usage.ts';
import { defined } from '../../domain/defined.ts';
import { isKilnError, KilnError } from '../../domain/failures.ts';
import type { NumberedLogEntry } from '../../domain/logs/log-entry.ts';
import { stageLogEntries } from '../../domain/workload/stage-log.ts';
import { isFinal } from '../../domain/workload/stages.ts';
import type { WorkloadRequest } from '../../domain/workload/workload.ts';
import { type StoredSources, sourcesMissing } from '../../store/sources/sources.ts';
import { sendEvents } from '../event-stream.ts';
import type { LocatedWorkload, LogFeeds } from '../logs/log-feed.ts';
import type { LogPlace, LogReader } from '../logs/log-reader.ts';
import { type LogStreamLimits, type LogStreamOptions, streamLog } from '../logs/log-stream.ts';
import type { GatewayLogger } from '../problem-replies.ts';
import type { RouteHandlers } from '../route-binding.ts';

export interface WorkloadHandlerOptions {
  readonly workloads: WorkloadClient;
  readonly sources: Pick<StoredSources, 'find'>;
  readonly logs: LogReader;
  /** Where workloads are (`locatedBy`), and what their hosts send next, shared by all streams. */
  readonly feeds: LogFeeds;
  /** @returns what a VM uses now, where its host answers. */
  readonly usage?: (vm: { hostId: string; vmId: string }) => Promise<VmUsageView | undefined>;
  readonly log: GatewayLogger;
  /** Lines shown with a single workload. */
  readonly tailLines: number;
  readonly streams: LogStreamLimits & { readonly max: number; readonly onCount: (open: number) => void };
  /** @returns the page of an execution in the Temporal Web UI, where there is one. */
  readonly temporalUrl?: (execution: { workflowId: string; executionId: string }) => string;
  /** Aborted when the gateway ends. */
  readonly ending: AbortSignal;
}

type WorkloadRoutes =
  | 'createWorkload'
  | 'listWorkloads'
  | 'getWorkload'
  | 'stopWorkload'
  | 'workloadHistory'
  | 'workloadLogs'
  | 'streamWorkloadLogs';

export function workloadHandlers(options: WorkloadHandlerOptions): Pick<RouteHandlers, WorkloadRoutes> {
  const { workloads, logs } = options;
  return {
    createWorkload: async ({ body }) => {
      const { id } = body;
      const request = requestOf(body);
      await assertSources(options, request, id);
      const { snapshot, created } = await workloads.create(request, id);
      return { status: created ? 201 : 200, body: await view(options, snapshot) };
    },
    listWorkloads: async ({ query }) => ({ status: 200, body: await workloads.list(query) }),
    getWorkload: async ({ params }) => ({ status: 200, body: await view(options, await workloads.get(params.id)) }),
    stopWorkload: async ({ params, body }) => {
      const { snapshot, settled } = await workloads.stop(params.id, { ...body, by: 'api' });
      return { status: settled ? 200 : 202, body: await view(options, snapshot) };
    },
    workloadHistory: async ({ params }) => ({ status: 200, body: await workloads.history(params.id) }),
    workloadLogs: async ({ params, query: { after, limit, ...filter } }) => {
      const positions = after === undefined ? {} : decodeLogCursor(after);
      const place = placeOf(await workloads.get(params.id));
      const page = await logs.page(place, { positions, limit, filter });
      const { more, incomplete } = page;
      const cursor = encodeLogCursor(page.positions);
      const body = { entries: page.entries.map(shown), cursor, more };
      return { status: 200, body: incomplete === undefined ? body : { ...body, incomplete } };
    },
    streamWorkloadLogs: streamHandler(options),
  };
}

/**
 * Reports at once that sources are missing. A repeated create is still answered for its workload, even where its
 * sources are gone.
 */
async function assertSources(
  { sources, workloads }: WorkloadHandlerOptions,
  { source }: WorkloadRequest,
  id: string | undefined,
): Promise<void> {
  if (source === undefined || (await sources.find(source.sha256)) !== undefined) return;
  const isKnown = id !== undefined && (await isThere(workloads, id));
  if (!isKnown) throw sourcesMissing(source.sha256);
}

async function isThere(workloads: WorkloadClient, id: string): Promise<boolean> {
  try {
    await workloads.get(id);
    return true;
  } catch (error) {
    if (isKilnError(error, 'NOT_FOUND')) return false;
    throw error;
  }
}

function streamHandler(options: WorkloadHandlerOptions): RouteHandlers['streamWorkloadLogs'] {
  let open = 0;
  const count = (change: 1 | -1) => {
    open += change;
    options.streams.onCount(open);
  };
  return async ({ params, query: { after, ...filter } }, request, reply) => {
    if (open >= options.streams.max) {
      throw new KilnError(
        'QUEUE_FULL',
        `This gateway streams ${options.streams.max} logs already; read pages of the log instead.`,
      );
    }
    const positions = startOf(request, after);
    // Counted before the first await: otherwise many requests at one time would exceed the limit.
    count(1);
    const feed = options.feeds.join(params.id);
    try {
      // Any error of the request is answered as a problem before the stream begins.
      await feed.look();
      await runStream(options, params.id, { feed, positions, filter }, reply);
    } finally {
      feed.leave();
      count(-1);
    }
  };
}

/** A client that reconnects sends its position in `Last-Event-ID`, which overrides its first request. */
function startOf(request: FastifyRequest, after: string | undefined): LogPositions {
  const last = request.headers['last-event-id'];
  const cursor = typeof last === 'string' && last !== '' ? last : after;
  return cursor === undefined ? {} : decodeLogCursor(cursor);
}

function runStream(
  { logs, log, streams, ending }: WorkloadHandlerOptions,
  id: string,
  wanted: Pick<LogStreamOptions, 'feed' | 'positions' | 'filter'>,
  reply: FastifyReply,
): Promise<void> {
  const onBroken = (code: string) => log.warn({ code, id }, 'a log stream broke off');
  return sendEvents(reply, { retryMs: streams.pollMs, ending, onBroken }, (response, signal) =>
    streamLog(response, { reader: logs, ...wanted, limits: streams, signal }),
  );
}

/** @returns where a workload is now, in the form that log streams need. */
export async function locatedBy(workloads: Pick<WorkloadClient, 'get'>, id: string): Promise<LocatedWorkload> {
  const snapshot = await workloads.get(id);
  return { place: placeOf(snapshot), stage: snapshot.state.stage, isOpen: snapshot.isOpen === true };
}

async function view(options: WorkloadHandlerOptions, snapshot: WorkloadSnapshot): Promise<WorkloadView> {
  const [tail, usage] = await Promise.all([
    options.logs.tail(placeOf(snapshot), options.tailLines),
    usageOf(options, snapshot),
  ]);
  const { execution, releases, requestedImage } = snapshot;
  return workloadView(snapshot.state, {
    logs: { entries: tail.entries.map(shown), truncated: tail.truncated },
    ...defined({ usage, requestedImage, releases }),
    ...(execution === undefined || options.temporalUrl === undefined
      ? {}
      : { temporalUrl: options.temporalUrl(execution) }),
  });
}

/** Only a running VM uses anything. */
async function usageOf(
  { usage }: WorkloadHandlerOptions,
  { state }: WorkloadSnapshot,
): Promise<VmUsageView | undefined> {
  const { vm, stage } = state;
  return vm?.pid === undefined || isFinal(stage) ? undefined : usage?.(vm);
}

function placeOf({ state, hostId }: WorkloadSnapshot): LogPlace {
  const { workloadId, vm } = state;
  const place = { workloadId, derived: stageLogEntries(state) };
  if (vm !== undefined) return { ...place, hostId: vm.hostId, epoch: vm.epoch };
  return hostId === undefined ? place : { ...place, hostId };
}

function shown({ timestamp, stage, message, level }: NumberedLogEntry) {
  return { timestamp, stage, message, level };
}
