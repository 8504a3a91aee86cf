/** A gateway over one saved session in memory: real routes and replies, no Temporal, no host. */
import type { SessionClient, SessionSnapshot } from '../../../client/temporal/sessions/session-client.ts';
import type { HeadSave } from '../../../contracts/store/save-documents.ts';
import { KilnError } from '../../../domain/failures.ts';
import type { SessionEnd, SessionSettings } from '../../../domain/session/session-record.ts';
import type { SessionView } from '../../../domain/session/session-state.ts';
import { createGateway, type GatewayLimits } from '../../../gateway/gateway.ts';
import type { ObjectStore } from '../../../store/object-store.ts';
import { createSaveHeads } from '../../../store/sessions/saves/heads.ts';
import { SALT_HEX } from '../saves/built-save.ts';
import type { MemoryStore } from '../saves/memory-store.ts';
import { SESSION } from '../saves/saves-fixture.ts';
import { createFakeWorkloads } from './fake-workloads.ts';

const TOKEN = 'a-token-of-the-api-tests';

const SETTINGS: SessionSettings = {
  image: { name: 'base', digest: '0'.repeat(64) },
  resources: { vcpus: 1, memMib: 128, diskMib: 128 },
  egress: [],
  tiers: { idleMs: 1, ttlMs: 1 },
};
const QUIET = {
  name: SESSION,
  settings: SETTINGS,
  runs: { waiting: [], turn: 1 },
  expiresAtMs: 0,
  events: [],
};

export interface SavedGateway {
  readonly base: string;
  readonly token: string;
  /** What was logged as a warning or an error. */
  readonly logged: readonly string[];
  /** How often a VM was asked for; each time, there was none: UNSUPPORTED. */
  readonly vmsAsked: () => number;
  /** @param path below the session */
  ask(path: string, init?: RequestInit): Promise<Response>;
  close(): Promise<void>;
}

export interface SavedGatewayOptions {
  /** Absent: no workflow knows the session. */
  readonly state?: Pick<SessionView, 'tier' | 'saves'>;
  readonly end?: SessionEnd;
  readonly limits?: Partial<GatewayLimits>;
}

/** Makes saves the kept ones of the session, the last one the newest. */
export async function keptInHead(store: MemoryStore, saves: readonly HeadSave[]): Promise<void> {
  const heads = createSaveHeads(store);
  await heads.claim(SESSION, 1, SALT_HEX);
  for (const save of saves) await heads.advance(SESSION, { save, saltHex: SALT_HEX, packs: [], nowMs: 0 });
}

/** Starts it. */
export async function startSavedGateway(
  store: MemoryStore,
  { state, end, limits = {} }: SavedGatewayOptions = {},
): Promise<SavedGateway> {
  const logged: string[] = [];
  const note = (_facts: object, message: string) => void logged.push(message);
  let vmsAsked = 0;
  const refuse = () => Promise.reject(new KilnError('UNSUPPORTED', 'not in this test'));
  const snapshot: SessionSnapshot = {
    record: {
      ...{ ...SESSION, schemaVersion: 1, createdAt: '2026-01-01T00:00:00.000Z' },
      settings: SETTINGS,
      ...(end === undefined ? {} : { end }),
    },
    ...(state === undefined ? {} : { state: { ...QUIET, ...state } }),
  };
  const client: SessionClient = {
    ...{ create: refuse, list: refuse, send: refuse, run: refuse, runs: refuse, cancel: refuse, patch: refuse },
    ...{ close: refuse, sleep: refuse, delete: refuse, sentLately: () => undefined },
    get: async () => snapshot,
    hold: () => {
      vmsAsked += 1;
      return refuse();
    },
  };
  const gateway = createGateway({
    workloads: createFakeWorkloads(),
    store: wholeStore(store),
    isPolled: async () => true,
    hostLogs: { fetch: refuse, follow: refuse },
    sessions: {
      client,
      followOutput: refuse,
      files: { look: refuse, read: refuse, write: refuse, remove: refuse, list: refuse },
    },
    token: TOKEN,
    log: { info: () => undefined, warn: note, error: note },
    version: '0.0.0-test',
    limits,
  });
  const base = await gateway.listen({ host: '127.0.0.1', port: 0 });
  const headers = { authorization: `Bearer ${TOKEN}` };
  return {
    ...{ base, token: TOKEN, logged, vmsAsked: () => vmsAsked, close: () => gateway.close() },
    ask: (path, init = {}) =>
      fetch(`${base}/api/sessions/${SESSION.thread}/${path}`, {
        ...init,
        headers: { ...headers, ...Object(init.headers) },
      }),
  };
}

/** Sees methods of the store that a test replaces later, too. */
function wholeStore(store: MemoryStore): ObjectStore {
  const none = () => Promise.reject(new KilnError('UNSUPPORTED', 'not in this test'));
  return {
    ...store,
    readDocument: (key, schema) => store.readDocument(key, schema),
    readBlob: (key, maxBytes, signal) => store.readBlob(key, maxBytes, signal),
    readPart: (key, part, signal) => store.readPart(key, part, signal),
    ...{ bucket: 'memory', list: none, ensureBucket: none, close: () => undefined },
    async *listAll() {},
  };
}
