/** A gateway in a process of a test: its calls of Temporal and of the store have gates, each by the thread it is for. */
import { AsyncLocalStorage } from 'node:async_hooks';
import { Client, type Connection } from '@temporalio/client';
import { createSessionClient, type SessionClient } from '../../../client/temporal/sessions/session-client.ts';
import { createWorkloadClient } from '../../../client/temporal/workloads/workload-client.ts';
import type { SessionPolicyOverrides } from '../../../domain/policies.ts';
import { createGateway } from '../../../gateway/gateway.ts';
import { hostLogsOverHttp } from '../../../gateway/logs/host-logs.ts';
import type { GatewayLogger } from '../../../gateway/problem-replies.ts';
import { filesOverHttp } from '../../../gateway/sessions/host-files.ts';
import { runOutputOverHttp } from '../../../gateway/sessions/host-run-output.ts';
import type { ObjectStore } from '../../../store/object-store.ts';
import { createRunRequests } from '../../../store/sessions/run-requests.ts';
import { createWorkloadDocuments } from '../../../store/workloads/workload-documents.ts';
import { HOST_TOKEN, sessionBooksOf } from './harness-workers.ts';
import { FAST_SESSIONS } from './kiln-harness.ts';
import type { Caller, PortGates } from './port-gates.ts';
import { silentLogger } from './silent-logger.ts';

/** Token of its API. */
export const GATEWAY_TOKEN = 'a-token-of-the-gateway-tests';
const HOST_FETCH = { token: HOST_TOKEN, timeoutMs: 3_000 };

const present = new AsyncLocalStorage<string>();

/** @returns the thread that a request is for; empty outside of a request */
export function callingThread(): Caller {
  const thread = present.getStore();
  return thread === undefined ? {} : { workloadId: thread };
}

export interface GatedGatewayPlace {
  readonly connection: Connection;
  readonly namespace: string;
  readonly store: ObjectStore;
  readonly guests: 'fake' | 'qemu';
  /** Of sessions that are begun through it; default: `FAST_SESSIONS`. */
  readonly policies?: SessionPolicyOverrides;
  /** Default: none. */
  readonly log?: GatewayLogger;
}

/**
 * Starts it. Points: `sessions.*` (what a handler asks), `sessionBooks.*` (records), `store.*` (keys and bodies),
 * `temporal.*` (calls of workflows).
 */
export async function startGatedGateway(
  { connection, namespace, store, guests, policies = FAST_SESSIONS, log = silentLogger }: GatedGatewayPlace,
  gates: PortGates,
): Promise<{ readonly url: string; close(): Promise<void> }> {
  const client = new Client({ connection, namespace });
  const { temporal } = gates.over({ temporal: client.workflow });
  Object.defineProperty(client, 'workflow', { value: temporal });
  const books = { ...sessionBooksOf(store, { guests }), requests: createRunRequests(gates.over({ store }).store) };
  const { sessionBooks } = gates.over({ sessionBooks: books });
  const gateway = createGateway({
    workloads: createWorkloadClient({ client, archive: createWorkloadDocuments(store) }),
    store,
    sessions: {
      client: byThread(
        gates.over({ sessions: createSessionClient({ client, books: sessionBooks, policies }) }).sessions,
      ),
      followOutput: runOutputOverHttp(HOST_FETCH),
      files: filesOverHttp(HOST_FETCH),
    },
    isPolled: async () => true,
    hostLogs: hostLogsOverHttp({ ...HOST_FETCH, maxBytes: 1_000_000 }),
    token: GATEWAY_TOKEN,
    log,
    version: '0',
    limits: { runLookMs: 20, runMaxLookMs: 200 },
  });
  return { url: await gateway.listen({ host: '127.0.0.1', port: 0 }), close: () => gateway.close() };
}

/** Whatever is called on the way of these two is called for their thread. */
function byThread(sessions: SessionClient): SessionClient {
  return {
    ...sessions,
    send: (name, request) => present.run(name.thread, () => sessions.send(name, request)),
    run: (name, runId) => present.run(name.thread, () => sessions.run(name, runId)),
  };
}
