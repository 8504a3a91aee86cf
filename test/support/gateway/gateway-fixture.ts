/**
 * A listening gateway on the real store, and a host's data plane that answers from memory. The workloads themselves are
 * fakes.
 */
import { randomUUID } from 'node:crypto';
import type { Server } from 'node:http';
import { Registry } from 'prom-client';
import { createKilnClient, type KilnClient } from '../../../client/http/kiln-client.ts';
import type { NumberedLogEntry } from '../../../domain/logs/log-entry.ts';
import { createGateway, type GatewayOptions } from '../../../gateway/gateway.ts';
import { hostLogsOverHttp } from '../../../gateway/logs/host-logs.ts';
import { createDataPlane } from '../../../host/face/data-plane.ts';
import type { HostLogs } from '../../../host/logs/host-logs.ts';
import { createLogFollows, type LogFollows } from '../../../host/logs/log-follows.ts';
import { writeHostEntry } from '../../../store/hosts/host-directory.ts';
import type { ObjectStore } from '../../../store/object-store.ts';
import { freshObjectStore } from '../servers/object-store.ts';
import { createFakeWorkloads, type FakeWorkloads } from './fake-workloads.ts';

export const TOKEN = 'a-token-of-the-api-tests';
const HOST_TOKEN = 'a-token-of-the-host-tests';
export const HOST_ID = 'host-1';
export const silent = { info: () => {}, warn: () => {}, error: () => {} };

export const authorized = { authorization: `Bearer ${TOKEN}` };
export const json = { ...authorized, 'content-type': 'application/json' };
export const post = (body: unknown) => ({ method: 'POST', headers: json, body: JSON.stringify(body) });
export const newId = () => `t-${randomUUID().slice(0, 13)}`;

export interface GatewayFixture {
  readonly base: string;
  /** The HTTP server of the gateway. */
  readonly server: Server;
  readonly api: KilnClient;
  readonly store: ObjectStore;
  readonly workloads: FakeWorkloads;
  /** Lines that the host has not shipped yet, by workload. */
  readonly spools: Map<string, NumberedLogEntry[]>;
  /** Requests that wait at the host for the next line. */
  readonly follows: LogFollows;
  readonly hostUrl: string;
  /** Whether workers poll, as reported to the gateway. */
  polled: boolean;
  /** Writes the registration of the host. */
  register(url: string): Promise<void>;
  /** Ends the host's data plane and starts a new one at another address, with no work in progress. */
  restartHost(): Promise<void>;
  close(): Promise<void>;
}

export async function startGateway(
  options: Pick<GatewayOptions, 'uploadDir' | 'limits'> = {},
): Promise<GatewayFixture> {
  const store = await freshObjectStore();
  const spools: GatewayFixture['spools'] = new Map();
  let follows = memoryLogs(spools);
  let dataPlane = dataPlaneOf(follows);
  const hostUrl = await dataPlane.listen();
  await register(store, hostUrl);
  const workloads = createFakeWorkloads();
  const gateway = createGateway({
    workloads,
    store,
    isPolled: async () => fixture.polled,
    hostLogs: hostLogsOverHttp({ token: HOST_TOKEN, timeoutMs: 2_000, maxBytes: 1_000_000 }),
    token: TOKEN,
    log: silent,
    version: '0.0.0-test',
    temporalUrl: ({ executionId }) => `http://temporal.test/${executionId}`,
    ...options,
    limits: { streamPollMs: 20, maxLogStreams: 2, slowReaderMs: 100, ...options.limits },
  });
  const base = await gateway.listen({ host: '127.0.0.1', port: 0 });
  const fixture: GatewayFixture = {
    base,
    server: gateway.server.server,
    api: createKilnClient({ apiUrl: base, token: TOKEN }),
    store,
    workloads,
    spools,
    get follows() {
      return follows;
    },
    hostUrl,
    polled: true,
    register: (url) => register(store, url),
    restartHost: async () => {
      await dataPlane.close();
      follows = memoryLogs(spools);
      dataPlane = dataPlaneOf(follows);
      await register(store, await dataPlane.listen());
    },
    close: async () => {
      await gateway.close();
      await dataPlane.close();
      store.close();
    },
  };
  return fixture;
}

const NO_RUNS = { followOutput: async () => ({ pieces: [], isLast: true }) };

function memoryLogs(spools: GatewayFixture['spools']) {
  const kept: Pick<HostLogs, 'epochs' | 'read'> = {
    epochs: async ({ id }) => [...new Set((spools.get(id) ?? []).map(({ epoch }) => epoch))].sort(),
    read: async ({ id, epoch }, after, limit) =>
      (spools.get(id) ?? []).filter((entry) => entry.epoch === epoch && entry.n > after).slice(0, limit),
  };
  return Object.assign(createLogFollows({ ...kept, max: 10, maxHoldMs: 60_000 }), kept);
}

function dataPlaneOf(logs: Pick<HostLogs, 'epochs' | 'read' | 'follow'>) {
  const where = { hostId: HOST_ID, bindAddress: '127.0.0.1', port: 0, urlHost: '127.0.0.1' };
  return createDataPlane(
    { ...where, token: HOST_TOKEN, logger: silent },
    { metrics: new Registry(), usage: async () => undefined, logs, runs: NO_RUNS },
  );
}

function register(store: ObjectStore, url: string): Promise<void> {
  return writeHostEntry(store, {
    hostId: HOST_ID,
    url,
    at: new Date().toISOString(),
    capacity: { vcpus: 2, memMib: 2048 },
    free: { vcpus: 2, memMib: 2048 },
    load: 0,
    images: [],
    driver: 'fake',
    versions: {},
    draining: false,
  });
}

/** @returns the URL of a server that listens on a port of the loopback. */
export function urlOf(server: Server): string {
  const address = server.address();
  return `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`;
}
