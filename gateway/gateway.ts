/** The REST gateway: stateless, any number may run. */
import Fastify, { type FastifyInstance } from 'fastify';
import { mintId } from '../client/temporal/create-workload.ts';
import type { WorkloadClient } from '../client/temporal/workload-client.ts';
import type { Readiness } from '../contracts/readiness.ts';
import { KilnError } from '../domain/failures.ts';
import { createHostDirectory } from '../store/host-directory.ts';
import { createLogChunks } from '../store/log-chunks.ts';
import type { ObjectStore } from '../store/object-store.ts';
import { bearerCheck } from './bearer-auth.ts';
import type { FetchHostLogs } from './host-logs.ts';
import { createLogReader } from './log-reader.ts';
import { gatewayMetrics } from './metrics.ts';
import { errorHandler, type GatewayLogger, problemOfError, sendProblem } from './problem-replies.ts';
import { readiness } from './readiness.ts';
import { recordHandlers } from './record-handlers.ts';
import { bindRoutes } from './route-binding.ts';
import { serviceHandlers } from './service-handlers.ts';
import { workloadHandlers } from './workload-handlers.ts';

export interface GatewayOptions {
  readonly workloads: WorkloadClient;
  readonly store: ObjectStore;
  /** Whether a worker has polled a task queue lately; `createTaskQueueProbe` of the client. */
  readonly isPolled: (taskQueue: string, kind: 'workflow' | 'activity') => Promise<boolean>;
  readonly fetchHostLogs: FetchHostLogs;
  /** At least 16 characters. */
  readonly token: string;
  readonly log: GatewayLogger;
  readonly version: string;
  /** @returns page of an execution in the Temporal Web UI. */
  readonly temporalUrl?: (execution: { workflowId: string; executionId: string }) => string;
  readonly limits?: Partial<GatewayLimits>;
}

export interface GatewayLimits {
  readonly bodyBytes: number;
  /** Log lines shown with a single workload. */
  readonly tailLines: number;
  /** Age of a host's registration from which on it is not asked. */
  readonly hostFreshMs: number;
  readonly maxLogStreams: number;
  readonly streamPollMs: number;
  readonly streamKeepAliveMs: number;
  readonly slowReaderMs: number;
  /** For a request to arrive whole. */
  readonly requestMs: number;
}

export const DEFAULT_GATEWAY_LIMITS: GatewayLimits = {
  bodyBytes: 1024 * 1024,
  tailLines: 50,
  hostFreshMs: 30_000,
  maxLogStreams: 200,
  streamPollMs: 500,
  streamKeepAliveMs: 15_000,
  slowReaderMs: 30_000,
  requestMs: 30_000,
};

const STREAM_PAGE = 1000;

export interface Gateway {
  readonly server: FastifyInstance;
  /** @returns the base URL. @throws PORT_IN_USE */
  listen(where: { host: string; port: number }): Promise<string>;
  /** Ends streams and connections. */
  close(): Promise<void>;
}

/** @returns a gateway that listens nowhere yet. @throws CONFIG_INVALID where the token is too short */
export function createGateway(options: GatewayOptions): Gateway {
  const limits = { ...DEFAULT_GATEWAY_LIMITS, ...options.limits };
  const server = createServer(limits);
  const ending = new AbortController();
  const metrics = gatewayMetrics(server);
  parseJsonBodies(server);
  server.setErrorHandler(errorHandler(options.log));
  bindRoutes(
    server,
    {
      ...workloadHandlers({
        workloads: options.workloads,
        logs: logReader(options, limits),
        log: options.log,
        tailLines: limits.tailLines,
        streams: {
          max: limits.maxLogStreams,
          pollMs: limits.streamPollMs,
          keepAliveMs: limits.streamKeepAliveMs,
          slowReaderMs: limits.slowReaderMs,
          pageSize: STREAM_PAGE,
          onCount: metrics.openStreams,
        },
        ...(options.temporalUrl === undefined ? {} : { temporalUrl: options.temporalUrl }),
        ending: ending.signal,
      }),
      ...recordHandlers(options.store, () => mintId('d')),
      ...serviceHandlers({
        version: options.version,
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

function createServer(limits: GatewayLimits): FastifyInstance {
  return Fastify({
    logger: false,
    bodyLimit: limits.bodyBytes,
    requestTimeout: limits.requestMs,
    forceCloseConnections: true,
    // A malformed URL is refused before any route is found.
    frameworkErrors: (error, _request, reply) => void sendProblem(reply, problemOfError(error)),
  });
}

/** An empty body is no body, whatever its type says; what is no JSON is the caller's fault. */
function parseJsonBodies(server: FastifyInstance): void {
  server.removeAllContentTypeParsers();
  server.addContentTypeParser('application/json', { parseAs: 'string' }, (_request, body, done) => {
    if (body === '') return done(null, undefined);
    try {
      done(null, JSON.parse(body.toString()));
    } catch {
      done(new KilnError('SPEC_INVALID', 'The body is no JSON.'), undefined);
    }
  });
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

function logReader({ store, fetchHostLogs }: GatewayOptions, limits: GatewayLimits) {
  const hosts = createHostDirectory(store);
  return createLogReader({
    chunks: createLogChunks(store),
    host: (hostId) => hosts.read(hostId),
    fetchHostLogs,
    hostFreshMs: limits.hostFreshMs,
    now: Date.now,
  });
}

function ready({ store, isPolled }: GatewayOptions, limits: GatewayLimits): Promise<Readiness> {
  const hosts = createHostDirectory(store);
  return readiness({ hosts: () => hosts.list(), isPolled, hostFreshMs: limits.hostFreshMs, now: Date.now });
}
