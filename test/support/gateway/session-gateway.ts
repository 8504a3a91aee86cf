/** A gateway for the sessions of a harness, over its real Temporal, store and hosts. */
import { createGateway } from '../../../gateway/gateway.ts';
import { filesOverHttp } from '../../../gateway/sessions/host-files.ts';
import { HOST_TOKEN } from '../workers/harness-workers.ts';
import type { Harness } from '../workers/kiln-harness.ts';
import { silentLogger } from '../workers/silent-logger.ts';
import { createFakeWorkloads } from './fake-workloads.ts';

const TOKEN = 'a-token-of-the-api-tests';
const MIB = 1024 * 1024;

export interface SessionGateway {
  /** Address of the API. */
  readonly base: string;
  /** The headers of a caller who may. */
  readonly authorized: { readonly authorization: string };
  close(): Promise<void>;
}

/** Starts it. */
export async function startSessionGateway(kiln: Pick<Harness, 'sessions' | 'store'>): Promise<SessionGateway> {
  const gateway = createGateway({
    workloads: createFakeWorkloads(),
    store: kiln.store,
    isPolled: async () => true,
    hostLogs: { fetch: () => Promise.reject(new Error('no logs')), follow: () => Promise.reject(new Error('no logs')) },
    sessions: {
      client: kiln.sessions,
      followOutput: async () => ({ pieces: [], isLast: true }),
      files: filesOverHttp({ token: HOST_TOKEN, timeoutMs: 20_000 }),
    },
    token: TOKEN,
    log: silentLogger,
    version: '0.0.0-test',
    limits: { sources: { maxBytes: MIB, maxTarBytes: MIB, maxEntries: 1, drainMs: 500 } },
  });
  const base = await gateway.listen({ host: '127.0.0.1', port: 0 });
  return { base, authorized: { authorization: `Bearer ${TOKEN}` }, close: () => gateway.close() };
}
