/** HTTP server of one host: bytes that never go through Temporal. Loopback or a private network, token-checked. */
import { createHash, timingSafeEqual } from 'node:crypto';
import Fastify, { type FastifyInstance } from 'fastify';
import type { Registry } from 'prom-client';
import type { z } from 'zod';
import {
  type HostFollowReply,
  type HostLogsReply,
  hostFollowPath,
  hostFollowQuerySchema,
  hostLogsPath,
  hostLogsQuerySchema,
} from '../../contracts/host/data-plane.ts';
import { VM_ID_PATTERN } from '../../contracts/host/instance-record.ts';
import { workloadIdSchema } from '../../contracts/identifiers.ts';
import { failureKind, isKilnError, KilnError } from '../../domain/failures.ts';
import type { NumberedLogEntry } from '../../domain/logs/log-entry.ts';
import type { LogStage } from '../../domain/logs/log-stage.ts';
import { isStage } from '../../domain/workload/stages.ts';
import type { SessionRuns } from '../../ports/runs.ts';
import type { SessionFiles } from '../../ports/session-files.ts';
import type { VmUsage } from '../../ports/vm-driver.ts';
import type { HostLogger } from '../host-logger.ts';
import type { HostLogs } from '../logs/host-logs.ts';
import { addRunOutputRoute } from './run-output-route.ts';
import { addVmFilesRoutes } from './vm-files-routes.ts';

export interface DataPlaneOptions {
  readonly hostId: string;
  readonly bindAddress: string;
  /** 0 = any free one. */
  readonly port: number;
  /** Host name in the URL that other processes get. */
  readonly urlHost: string;
  /** Bearer token of the stack's own processes. */
  readonly token: string;
  readonly logger: HostLogger;
}

export interface DataPlaneRooms {
  readonly logs: Pick<HostLogs, 'read' | 'epochs' | 'follow'>;
  readonly runs: Pick<SessionRuns, 'followOutput'>;
  /** Absent: this host shows no files. */
  readonly files?: SessionFiles;
  readonly metrics: Registry;
  readonly usage: (vmId: string) => Promise<VmUsage | undefined>;
}

export interface DataPlane {
  /** Begins to answer. @returns the base URL. @throws PORT_IN_USE */
  listen(): Promise<string>;
  close(): Promise<void>;
}

const MIN_TOKEN_LENGTH = 16;

/** @throws CONFIG_INVALID where the token is too short to be one */
export function createDataPlane(options: DataPlaneOptions, sources: DataPlaneRooms): DataPlane {
  if (options.token.length < MIN_TOKEN_LENGTH) {
    throw new KilnError('CONFIG_INVALID', `The host token must have at least ${MIN_TOKEN_LENGTH} characters.`);
  }
  const server = Fastify({ logger: false, bodyLimit: 1024, forceCloseConnections: true });
  guard(server, options.token);
  addRoutes(server, options, sources);
  server.setErrorHandler((error, _request, reply) => {
    const known = isKilnError(error) ? error : undefined;
    if (known === undefined) options.logger.error({ reason: String(error) }, 'the data plane could not answer');
    const status = known === undefined ? 500 : failureKind(known.code).status;
    const detail = known?.message ?? 'The host could not answer; look at its log.';
    void reply
      .code(status)
      .type('application/problem+json')
      .send({
        type: 'about:blank',
        title: known?.code ?? 'INTERNAL',
        status,
        code: known?.code ?? 'INTERNAL',
        detail,
      });
  });
  return {
    async listen() {
      await bind(server, options);
      const address = server.server.address();
      const port = typeof address === 'object' && address !== null ? address.port : options.port;
      return `http://${options.urlHost}:${port}`;
    },
    close: () => server.close(),
  };
}

async function bind(server: FastifyInstance, options: DataPlaneOptions): Promise<void> {
  try {
    await server.listen({ host: options.bindAddress, port: options.port });
  } catch (error) {
    throw new KilnError(
      'PORT_IN_USE',
      `The data plane cannot listen on port ${options.port}; give another.`,
      {},
      error,
    );
  }
}

function guard(server: FastifyInstance, token: string): void {
  const expected = digest(token);
  server.addHook('onRequest', async (request) => {
    if (request.url === '/healthz') return;
    const given = /^Bearer (\S+)$/i.exec(request.headers.authorization ?? '')?.[1] ?? '';
    // Digests have one length, so the time taken shows neither content nor length.
    if (!timingSafeEqual(digest(given), expected)) {
      throw new KilnError('UNAUTHORIZED', 'The data plane needs the host token of this stack as a bearer token.');
    }
  });
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

function addRoutes(server: FastifyInstance, options: DataPlaneOptions, sources: DataPlaneRooms): void {
  const { logs, metrics, usage } = sources;
  server.get('/healthz', async () => ({ status: 'ok', hostId: options.hostId }));
  server.get('/metrics', async (_request, reply) => {
    void reply.type(metrics.contentType);
    return metrics.metrics();
  });
  server.get<{ Params: { id: string } }>('/v1/vms/:id/usage', async ({ params: { id } }): Promise<VmUsage> => {
    const used = VM_ID_PATTERN.test(id) ? await usage(id) : undefined;
    if (used === undefined) throw new KilnError('NOT_FOUND', 'There is no such VM on this host, or it does not run.');
    return used;
  });
  addLogRoutes(server, options.hostId, logs);
  addRunOutputRoute(server, sources.runs);
  if (sources.files !== undefined) addVmFilesRoutes(server, sources.files);
}

interface LogRequest {
  readonly params: { readonly id: string };
  readonly query: unknown;
}

function addLogRoutes(server: FastifyInstance, hostId: string, logs: DataPlaneRooms['logs']): void {
  server.get<{ Params: { id: string } }>(hostLogsPath(':id'), async (request): Promise<HostLogsReply> => {
    const { id, query } = parsed(request, hostLogsQuerySchema);
    const owner = { kind: 'workload', id } as const;
    const epochs = await logs.epochs(owner);
    const epoch = query.epoch ?? epochs.at(-1);
    if (epoch === undefined || !epochs.includes(epoch)) {
      throw new KilnError('NOT_FOUND', `This host has no log of workload ${id}.`);
    }
    const entries = await logs.read({ ...owner, epoch }, query.after ?? -1, query.limit);
    return { entries: ofWorkload(entries), writer: hostId, epoch };
  });
  server.get<{ Params: { id: string } }>(hostFollowPath(':id'), async (request, reply): Promise<HostFollowReply> => {
    const { id, query } = parsed(request, hostFollowQuerySchema);
    const gone = new AbortController();
    reply.raw.once('close', () => gone.abort());
    const { after = -1, ...rest } = query;
    const answer = await logs.follow({ owner: { kind: 'workload', id }, ...rest, after, signal: gone.signal });
    return { ...answer, entries: ofWorkload(answer.entries), writer: hostId };
  });
}

/** @throws SPEC_INVALID */
function parsed<T>({ params, query }: LogRequest, schema: z.ZodType<T>): { id: string; query: T } {
  const id = workloadIdSchema.safeParse(params.id);
  const asked = schema.safeParse(query);
  if (id.success && asked.success) return { id: id.data, query: asked.data };
  const issue = (id.error ?? asked.error)?.issues[0];
  throw new KilnError('SPEC_INVALID', `${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'not understood'}`);
}

/** A workload's log has only stages of workloads. */
function ofWorkload(entries: readonly NumberedLogEntry<LogStage>[]): NumberedLogEntry[] {
  return entries.flatMap((entry) => (isStage(entry.stage) ? [{ ...entry, stage: entry.stage }] : []));
}
