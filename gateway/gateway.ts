/** The REST gateway: stateless, any number of them may run. */

import { tmpdir } from 'node:os';
import type { FastifyInstance } from 'fastify';
import type { RecordNow } from '../client/temporal/maintenance/record-now.ts';
import type { SessionClient } from '../client/temporal/sessions/session-client.ts';
import { mintId } from '../client/temporal/workloads/create-workload.ts';
import type { OpenWorkloads } from '../client/temporal/workloads/open-workloads.ts';
import type { WorkloadClient } from '../client/temporal/workloads/workload-client.ts';
import type { Readiness } from '../contracts/api/readiness.ts';
import { defined } from '../domain/defined.ts';
import { KilnError } from '../domain/failures.ts';
import { createHostDirectory } from '../store/hosts/host-directory.ts';
import { createLogChunks } from '../store/logs/log-chunks.ts';
import type { ObjectStore } from '../store/object-store.ts';
import { createRunOutputs } from '../store/sessions/run-outputs.ts';
import { createSaveHeads } from '../store/sessions/saves/heads.ts';
import { createSavedWorkspaces } from '../store/sessions/saves/saved-workspace.ts';
import { createSources } from '../store/sources/sources.ts';
import { bearerCheck } from './auth/bearer-auth.ts';
import { deploymentHandlers } from './deployments/deployment-handlers.ts';
import { createHostEntries, forgetting } from './hosts/host-entries.ts';
import { hostHandlers } from './hosts/host-handlers.ts';
import { type FetchVmUsage, usageReader } from './hosts/host-usage.ts';
import { createHttpServer } from './http-server.ts';
import { imageHandlers } from './images/image-handlers.ts';
import type { HostLogsApi } from './logs/host-logs.ts';
import { createLogFeeds, type LogFeeds } from './logs/log-feed.ts';
import { createLogReader } from './logs/log-reader.ts';
import { type FleetCounts, type GatewayMetrics, gatewayMetrics } from './metrics.ts';
import { serviceHandlers } from './operations-handlers.ts';
import { errorHandler, type GatewayLogger } from './problem-replies.ts';
import { readiness } from './readiness.ts';
import { bindRoutes } from './route-binding.ts';
import { fileHandlers, noFileHandlers } from './sessions/file-handlers.ts';
import type { HostFiles } from './sessions/host-files.ts';
import type { FollowRunOutput } from './sessions/host-run-output.ts';
import { createSavedTurns } from './sessions/saved-turns.ts';
import { noSessionHandlers, sessionHandlers } from './sessions/session-handlers.ts';
import { Transfers } from './sessions/transfers.ts';
import { noTurnHandlers, turnHandlers } from './sessions/turn-handlers.ts';
import { sourceHandlers } from './sources/source-handlers.ts';
import type { SourceUploadLimits } from './sources/source-upload.ts';
import { locatedBy, workloadHandlers } from './workloads/workload-handlers.ts';

export interface GatewayOptions {
  readonly workloads: WorkloadClient;
  readonly store: ObjectStore;
  /** Whether a worker has polled a task queue lately; `createTaskQueueProbe` of the client. */
  readonly isPolled: (taskQueue: string, kind: 'workflow' | 'activity') => Promise<boolean>;
  /** Data planes of hosts: `hostLogsOverHttp`. */
  readonly hostLogs: HostLogsApi;
  /** Absent: the routes of sessions are not available. */
  readonly sessions?: {
    readonly client: SessionClient;
    readonly followOutput: FollowRunOutput;
    readonly files: HostFiles;
  };
  /** Absent: the API does not show what VMs use. */
  readonly fetchVmUsage?: FetchVmUsage;
  /** At least 16 characters. */
  readonly token: string;
  readonly log: GatewayLogger;
  readonly version: string;
  /** @returns the page of an execution in the Temporal Web UI. */
  readonly temporalUrl?: (execution: { workflowId: string; executionId?: string }) => string;
  /** Counts the open workloads for the metrics; absent: they are not counted. */
  readonly openWorkloads?: () => Promise<readonly OpenWorkloads[]>;
  /** Archives closed workloads on request; absent: the route is not available. */
  readonly recordNow?: RecordNow;
  /** For files of running uploads, which have no names there; default: the system's directory for temporary files. */
  readonly uploadDir?: string;
  readonly limits?: Partial<GatewayLimits>;
}

export interface GatewayLimits {
  readonly bodyBytes: number;
  /** Log lines shown with a single workload. */
  readonly tailLines: number;
  /** A host whose registration is older than this is not asked. */
  readonly hostFreshMs: number;
  /** What was read of a host within this time is not read again: it registers as often. */
  readonly hostNewMs: number;
  /** How long a newer registration is waited for in place of one that is too old. */
  readonly newerWaitMs: number;
  readonly maxLogStreams: number;
  /** Pause between two reads of a streamed workload whose host does not report changes. */
  readonly streamPollMs: number;
  /** Longest such pause, where no host answers. */
  readonly streamMaxPollMs: number;
  /** How long a host is asked to hold a request for the next line. */
  readonly streamFollowMs: number;
  /** Lines that follow each other faster than this are fetched together. */
  readonly streamGatherMs: number;
  /** A streamed workload is read again at least this often; one that was moved to another host, more often. */
  readonly streamLookMs: number;
  readonly streamMovedLookMs: number;
  readonly streamKeepAliveMs: number;
  readonly slowReaderMs: number;
  /** Pauses between two looks at a run that no host can tell of: the first, and the longest. */
  readonly runLookMs: number;
  readonly runMaxLookMs: number;
  /** How long the stream of a finished workload or run waits for a host that does not return its last lines. */
  readonly streamIncompleteMs: number;
  /** How long the metrics reuse one count of the open workloads. */
  readonly countsKeptMs: number;
  /** Time for a request to arrive completely. */
  readonly requestMs: number;
  /** The same for uploads. */
  readonly uploadMs: number;
  readonly maxUploads: number;
  /** Files of sessions, in both directions. */
  readonly maxFileTransfers: number;
  /** Looks into saved workspaces at a time, and pieces of a manifest that one may fetch from the store. */
  readonly maxFileLooks: number;
  readonly maxLookReads: number;
  /** A reader of a file who takes nothing for so long is disconnected. */
  readonly slowFileReaderMs: number;
  /** Memory for trees of saved workspaces, and as much for their manifests, bytes, roughly. */
  readonly savedTreesBytes: number;
  /** How long a caller who wants a file waits for the VM of the session. */
  readonly vmWaitMs: number;
  /** How long a caller who writes a file waits for it to be saved, where he asks for that. */
  readonly saveWaitMs: number;
  readonly sources: SourceUploadLimits;
}

const MIB = 1024 * 1024;

export const DEFAULT_GATEWAY_LIMITS: GatewayLimits = {
  bodyBytes: 1024 * 1024,
  tailLines: 50,
  hostFreshMs: 30_000,
  hostNewMs: 2_000,
  newerWaitMs: 200,
  maxLogStreams: 200,
  streamPollMs: 500,
  streamMaxPollMs: 2_000,
  streamFollowMs: 25_000,
  streamGatherMs: 50,
  streamLookMs: 300_000,
  streamMovedLookMs: 10_000,
  streamKeepAliveMs: 15_000,
  slowReaderMs: 30_000,
  runLookMs: 100,
  runMaxLookMs: 5_000,
  streamIncompleteMs: 10_000,
  countsKeptMs: 10_000,
  requestMs: 30_000,
  uploadMs: 600_000,
  maxUploads: 4,
  maxFileTransfers: 32,
  maxFileLooks: 64,
  maxLookReads: 2_000,
  slowFileReaderMs: 60_000,
  savedTreesBytes: 64 * 1024 * 1024,
  vmWaitMs: 60_000,
  saveWaitMs: 60_000,
  // Less than a host accepts: everything that is stored can be built.
  sources: { maxBytes: 64 * MIB, maxTarBytes: 128 * MIB, maxEntries: 20_000, drainMs: 5_000 },
};

const STREAM_PAGE = 1000;

export interface Gateway {
  readonly server: FastifyInstance;
  /** @returns the base URL. @throws PORT_IN_USE */
  listen(where: { host: string; port: number }): Promise<string>;
  /** Ends streams and connections. */
  close(): Promise<void>;
}

/** @returns a gateway that does not listen yet. @throws CONFIG_INVALID where the token is too short */
export function createGateway(options: GatewayOptions): Gateway {
  const limits = { ...DEFAULT_GATEWAY_LIMITS, ...options.limits };
  const server = createHttpServer(limits);
  const sources = createSources(options.store);
  const ending = new AbortController();
  const metrics = gatewayMetrics(server, fleetCounts(options, limits));
  server.setErrorHandler(errorHandler(options.log));
  bindRoutes(
    server,
    {
      ...workloadHandlers({
        workloads: options.workloads,
        sources,
        logs: logReader(options, limits),
        feeds: logFeeds(options, limits, metrics),
        ...usage(options, limits),
        log: options.log,
        tailLines: limits.tailLines,
        streams: {
          max: limits.maxLogStreams,
          pollMs: limits.streamPollMs,
          keepAliveMs: limits.streamKeepAliveMs,
          slowReaderMs: limits.slowReaderMs,
          incompleteMs: limits.streamIncompleteMs,
          pageSize: STREAM_PAGE,
          onCount: metrics.openStreams,
        },
        ...defined({ temporalUrl: options.temporalUrl }),
        ending: ending.signal,
      }),
      ...sessionRoutes(options, limits, ending.signal),
      ...sourceHandlers({
        sources,
        directory: options.uploadDir ?? tmpdir(),
        maxUploads: limits.maxUploads,
        limits: limits.sources,
      }),
      ...deploymentHandlers(options.store, () => mintId('d')),
      ...hostHandlers(options.store),
      ...imageHandlers(options.store),
      ...serviceHandlers({
        version: options.version,
        ...defined({ recordNow: options.recordNow }),
        metrics: metrics.registry,
        readiness: () => ready(options, limits),
      }),
    },
    bearerCheck(options.token),
  );
  return {
    server,
    listen: (where) => listen(server, where),
    close: async () => {
      ending.abort();
      await server.close();
    },
  };
}

function sessionRoutes(options: GatewayOptions, limits: GatewayLimits, ending: AbortSignal) {
  const { sessions, store, log, temporalUrl } = options;
  if (sessions === undefined) return { ...noSessionHandlers(), ...noFileHandlers(), ...noTurnHandlers() };
  const directory = createHostDirectory(store);
  const hosts = createHostEntries({ ...limits, host: (id) => directory.read(id), now: Date.now });
  const handlers = sessionHandlers({
    sessions: sessions.client,
    follow: forgetting(hosts, sessions.followOutput),
    hosts,
    outputs: createRunOutputs(store),
    log,
    limits: {
      holdMs: limits.streamFollowMs,
      lookMs: limits.runLookMs,
      maxLookMs: limits.runMaxLookMs,
      incompleteMs: limits.streamIncompleteMs,
      maxStreams: limits.maxLogStreams,
      slowReaderMs: limits.slowReaderMs,
    },
    ...(temporalUrl && { temporalUrl: (workflowId: string) => temporalUrl({ workflowId }) }),
    ending,
  });
  const { maxFileTransfers: maxTransfers, maxFileLooks: maxLooks, vmWaitMs } = limits;
  const transfers = new Transfers({ sessions: sessions.client, hosts, maxTransfers, maxLooks, vmWaitMs, ending });
  const replies = {
    ...{ transfers, log, ending },
    maxReads: limits.maxLookReads,
    slowReaderMs: limits.slowFileReaderMs,
  };
  const turns = createSavedTurns({
    sessions: sessions.client,
    heads: createSaveHeads(store),
    workspaces: createSavedWorkspaces(store, { maxCacheBytes: limits.savedTreesBytes }),
    log,
  });
  const files = fileHandlers({
    sessions: sessions.client,
    files: sessions.files,
    transfers,
    turns,
    replies,
    saves: { waitMs: limits.saveWaitMs, lookMs: limits.runLookMs, maxLookMs: limits.runMaxLookMs },
    drainMs: limits.sources.drainMs,
    ending,
  });
  return { ...handlers, ...files, ...turnHandlers({ turns, replies }) };
}

function fleetCounts({ openWorkloads }: GatewayOptions, { countsKeptMs }: GatewayLimits): FleetCounts | undefined {
  return openWorkloads && { openWorkloads, keepMs: countsKeptMs, now: Date.now };
}

async function listen(server: FastifyInstance, where: { host: string; port: number }): Promise<string> {
  try {
    return await server.listen(where);
  } catch (error) {
    throw new KilnError(
      'PORT_IN_USE',
      `The gateway cannot listen on ${where.host}:${where.port}; set KILN_API_PORT to a free one.`,
      where,
      error,
    );
  }
}

function logReader({ store, hostLogs }: GatewayOptions, limits: GatewayLimits) {
  const hosts = createHostDirectory(store);
  return createLogReader({
    chunks: createLogChunks(store),
    host: (hostId) => hosts.read(hostId),
    fetchHostLogs: hostLogs.fetch,
    hostFreshMs: limits.hostFreshMs,
    now: Date.now,
  });
}

function logFeeds(
  { store, hostLogs, workloads }: GatewayOptions,
  limits: GatewayLimits,
  metrics: GatewayMetrics,
): LogFeeds {
  const hosts = createHostDirectory(store);
  return createLogFeeds({
    locate: (id) => locatedBy(workloads, id),
    host: (hostId) => hosts.read(hostId),
    follow: hostLogs.follow,
    hostFreshMs: limits.hostFreshMs,
    now: Date.now,
    limits: {
      pollMs: limits.streamPollMs,
      maxPollMs: limits.streamMaxPollMs,
      followMs: limits.streamFollowMs,
      gatherMs: limits.streamGatherMs,
      lookEveryMs: limits.streamLookMs,
      movedLookEveryMs: limits.streamMovedLookMs,
      pageSize: STREAM_PAGE,
    },
    onHeld: metrics.heldFollows,
  });
}

function usage({ store, fetchVmUsage }: GatewayOptions, { hostFreshMs }: GatewayLimits) {
  if (fetchVmUsage === undefined) return {};
  const hosts = createHostDirectory(store);
  return { usage: usageReader({ host: (id) => hosts.read(id), fetchVmUsage, hostFreshMs, now: Date.now }) };
}

function ready({ store, isPolled }: GatewayOptions, limits: GatewayLimits): Promise<Readiness> {
  const hosts = createHostDirectory(store);
  return readiness({ hosts: () => hosts.list(), isPolled, hostFreshMs: limits.hostFreshMs, now: Date.now });
}
