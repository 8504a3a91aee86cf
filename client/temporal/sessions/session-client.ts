/** Sessions for backend services: sends runs, reads, cancels and closes directly in Temporal, without the REST API. */
import type { Client } from '@temporalio/client';
import { LRUCache } from 'lru-cache';
import { createKeyedLock } from '../../../concurrency/keyed-lock.ts';
import type { PatchSession, RunRequestBody, SessionSettingsRequest } from '../../../contracts/api/session-request.ts';
import type { SessionPage } from '../../../contracts/api/session-view.ts';
import { KilnError } from '../../../domain/failures.ts';
import { CONTROL_QUEUE, storeKeys, type ThreadName } from '../../../domain/names.ts';
import type { SessionPolicyOverrides } from '../../../domain/policies.ts';
import type { KnownRun } from '../../../domain/session/run-book.ts';
import type { SessionRecord } from '../../../domain/session/session-record.ts';
import type { LocatedRun } from '../../../domain/session/session-state.ts';
import type { SessionBooks } from '../../../ports/session-books.ts';
import { type ClientTimings, DEFAULT_CLIENT_TIMINGS } from '../client-timings.ts';
import { deleteSession } from './delete-session.ts';
import { cancelRun, closeSession, sleepSession } from './end-session.ts';
import { type HeldSession, type HoldOptions, withHold } from './hold-session.ts';
import { type ListSessions, listSessions } from './list-sessions.ts';
import { patchSession } from './patch-session.ts';
import { listRuns, locateRun, readSession, type SessionSnapshot } from './read-session.ts';
import { sendRun } from './send-run.ts';
import type { SessionClientContext } from './session-client-context.ts';
import { openRecord, sameSettings, settingsOf } from './session-names.ts';

export type { LocatedRun } from '../../../domain/session/session-state.ts';
export type { HeldSession, HoldOptions } from './hold-session.ts';
export type { SessionSnapshot } from './read-session.ts';

export interface SessionClientOptions {
  readonly client: Client;
  readonly books: SessionBooks;
  readonly timings?: Partial<SessionClientContext['timings']>;
  /** Overrides of timeouts and retries for every session that this client starts. */
  readonly policies?: SessionPolicyOverrides;
  /** The operator's KILN_EGRESS_PRIVATE: what egress may name besides ports 443 and 80. Absent: nothing is checked. */
  readonly privateNames?: readonly string[];
  readonly taskQueue?: string;
}

export interface SessionClient {
  /**
   * Finds or begins the session of a thread. No VM is made before its first run.
   * @throws CONFLICT where it has other settings; SESSION_CLOSED, SESSION_EXPIRED where it has ended and `ifEnded` does
   *   not say otherwise; IMAGE_MISSING; STORE_UNAVAILABLE: repeat the call
   */
  create(
    name: ThreadName,
    settings: SessionSettingsRequest,
    options?: { ifEnded?: 'restart' | undefined },
  ): Promise<{ snapshot: SessionSnapshot; created: boolean }>;
  /** @throws NOT_FOUND, STORE_UNAVAILABLE, TEMPORAL_UNAVAILABLE */
  get(name: ThreadName): Promise<SessionSnapshot>;
  /** The sessions that Temporal still has, newest first. @throws SPEC_INVALID (cursor), TEMPORAL_UNAVAILABLE */
  list(query: ListSessions): Promise<SessionPage>;
  /**
   * Sends a run; the same id with the same body is one run, however often and however late. Begins the session.
   * @throws CONFLICT (another body), QUEUE_FULL, SESSION_CLOSED, SESSION_EXPIRED; STORE_UNAVAILABLE and
   *   TEMPORAL_UNAVAILABLE: nothing is known, repeat it with the same id
   */
  send(name: ThreadName, request: RunRequestBody): Promise<KnownRun>;
  /** @throws NOT_FOUND, STORE_UNAVAILABLE, TEMPORAL_UNAVAILABLE */
  run(name: ThreadName, runId: string): Promise<LocatedRun>;
  /**
   * Where a run was when this client sent it, seconds ago; by now it may have ended. Asks nobody.
   * @returns undefined where another one sent it, or longer ago
   */
  sentLately(name: ThreadName, runId: string): LocatedRun | undefined;
  /** Those that wait or run, and the last that ended: the newest first. Of an ended session those on record. @throws as `get` */
  runs(name: ThreadName, limit: number): Promise<readonly KnownRun[]>;
  /** A run that has ended stays as it is. @throws as `run` */
  cancel(name: ThreadName, runId: string): Promise<KnownRun>;
  /**
   * Does a piece of work while the session's VM runs, beside its runs; the session rests again afterwards. Begins the
   * session. @throws what `work` throws; QUEUE_FULL, SESSION_CLOSED, SESSION_EXPIRED; why there is no VM; as `get`
   */
  hold<T>(
    name: ThreadName,
    options: HoldOptions,
    work: (held: HeldSession, ask: () => Promise<HeldSession>) => Promise<T>,
  ): Promise<T>;
  /** Egress and tiers change at once, resources at the next boot of its VM. @throws SESSION_CLOSED, SESSION_EXPIRED, as `get` */
  patch(name: ThreadName, change: PatchSession): Promise<SessionSnapshot>;
  /** Idempotent. `settled`: whether it was closed in time. @throws as `get` */
  close(
    name: ThreadName,
    options: { waitMs: number; by?: string },
  ): Promise<{ snapshot: SessionSnapshot; settled: boolean }>;
  /**
   * Lets the session give up its VM once its runs have ended and its workspace is in the store; the next run wakes it.
   * Does not wait for that. Idempotent. @throws as `get`
   */
  sleep(name: ThreadName): Promise<SessionSnapshot>;
  /**
   * Closes the session and removes everything that the thread ever had, but for a record that says so. Idempotent: a call
   * that was broken off is finished by the next one. `settled`: whether that is done. @throws as `get`
   */
  delete(
    name: ThreadName,
    options: { waitMs: number; by?: string },
  ): Promise<{ snapshot: SessionSnapshot; settled: boolean }>;
}

const SEND_MS = 5_000;
const RECORD_MS = 10 * 60_000;
const MAX_RECORDS = 10_000;
/** Who sends a run follows it at once, or not through this process. */
const SENT_MS = 5_000;

/** @returns a client over a Temporal connection and the store. Nothing is called yet. */
export function createSessionClient(options: SessionClientOptions): SessionClient {
  const timings: ClientTimings & { sendMs: number } = {
    ...DEFAULT_CLIENT_TIMINGS,
    sendMs: SEND_MS,
    ...options.timings,
  };
  const context: SessionClientContext = {
    ...options,
    timings,
    taskQueue: options.taskQueue ?? CONTROL_QUEUE,
    lately: recordsReadLately(),
    sent: runsSentLately(),
    lanes: createKeyedLock(),
  };
  return {
    create: (name, settings, more = {}) => createSession(context, name, settings, more.ifEnded),
    get: (name) => readSession(context, name),
    list: (query) => listSessions(context, query),
    send: (name, request) => sendRun(context, name, request),
    run: (name, runId) => locateRun(context, name, runId),
    sentLately: (name, runId) => context.sent.get(name, runId),
    runs: (name, limit) => listRuns(context, name, limit),
    cancel: (name, runId) => cancelRun(context, name, runId),
    patch: (name, change) => patchSession(context, name, change),
    hold: (name, options, work) => withHold(context, name, options, work),
    delete: (name, how) => deleteSession(context, name, how),
    close: (name, how) => closeSession(context, name, how),
    sleep: (name) => sleepSession(context, name),
  };
}

async function createSession(
  context: SessionClientContext,
  name: ThreadName,
  request: SessionSettingsRequest,
  ifEnded: 'restart' | undefined,
): Promise<{ snapshot: SessionSnapshot; created: boolean }> {
  context.lately.forget(name);
  const begun = new Date().toISOString();
  const record = await openRecord(context, name, { settings: request, ifEnded });
  if (!sameSettings(record.settings, await settingsAsked(context, request, record))) {
    throw new KilnError('CONFLICT', `Thread ${name.thread} has a session with other settings; PATCH changes some.`);
  }
  return { snapshot: await readSession(context, name), created: record.createdAt >= begun };
}

/** An image that is asked for by a tag is the one that the tag named when the session was created. */
async function settingsAsked(
  context: SessionClientContext,
  request: SessionSettingsRequest,
  { settings }: SessionRecord,
) {
  // What may be asked of a new session is no matter for one that exists.
  const asked = await settingsOf({ books: context.books }, request);
  const byTag = request.image?.includes('@') !== true && asked.image.name === settings.image.name;
  return byTag ? { ...asked, image: settings.image } : asked;
}

function runsSentLately(): SessionClientContext['sent'] {
  const looks = new LRUCache<string, LocatedRun>({ max: MAX_RECORDS, ttl: SENT_MS });
  const keyOf = ({ project, thread }: ThreadName, runId: string) => JSON.stringify([project, thread, runId]);
  return {
    get: (name, runId) => looks.get(keyOf(name, runId)),
    set: (found) => void looks.set(keyOf(found.session, found.run.run.id), found),
  };
}

function recordsReadLately(): SessionClientContext['lately'] {
  const records = new LRUCache<string, SessionRecord>({ max: MAX_RECORDS, ttl: RECORD_MS });
  return {
    get: (name) => records.get(storeKeys.session(name)),
    set: (record) => void records.set(storeKeys.session(record), record),
    forget: (name) => void records.delete(storeKeys.session(name)),
  };
}
