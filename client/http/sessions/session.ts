/** The session of a thread: its runs, as a program sends them over HTTP. */
import { randomUUID } from 'node:crypto';
import { createKeyedLock } from '../../../concurrency/keyed-lock.ts';
import type { RunRequestBody, SendRunBody, SessionSettingsRequest } from '../../../contracts/api/session-request.ts';
import type { RunView, SessionView } from '../../../contracts/api/session-view.ts';
import { defined } from '../../../domain/defined.ts';
import { isKilnError } from '../../../domain/failures.ts';
import type { StreamTimings } from '../event-stream.ts';
import type { RouteMethods } from '../route-methods.ts';
import { REPEAT_TIMINGS, type RepeatTimings, repeatCall } from './repeat-call.ts';
import { createRun, type Run, type RunPlace } from './run.ts';

export interface SessionOptions extends SessionSettingsRequest {
  /** Default `default`. */
  readonly project?: string;
  /** How calls are repeated that nobody could answer, or whose answer was lost. */
  readonly repeat?: Partial<RepeatTimings>;
  /** How broken streams of output are continued. */
  readonly stream?: Partial<StreamTimings>;
  /** How long one call waits for the end of a run, ms; must be below the client's `timeoutMs`. Default 25 s. */
  readonly waitMs?: number;
}

export interface CommandOptions extends Pick<RunRequestBody, 'env' | 'timeoutMs' | 'repeatable' | 'ifEnded'> {
  /** The run's key in this thread. Without it one is minted before the first try. */
  readonly id?: string;
  /** Ends the sending and whatever waits for the run; a run that was taken goes on. */
  readonly signal?: AbortSignal;
}

export interface Session {
  readonly thread: string;
  /**
   * Sends a command, at once and in the order of these calls, and is the run that this makes. It is sent until the
   * session has answered, with the same id, so it runs once. The first one begins the session with the settings given;
   * where the session exists these do not count, and a CONFLICT that says so is ignored.
   */
  command(argv: readonly string[], options?: CommandOptions): Run;
  /**
   * Sends a message to the harness of the session, as `command` sends commands.
   * Not possible yet: the run fails with UNSUPPORTED.
   */
  run(message: string, options?: CommandOptions): Run;
  /** A run that was sent before, by whomever. Nothing is sent. */
  existing(id: string, options?: { readonly signal?: AbortSignal }): Run;
  /** @throws NOT_FOUND where no run has begun it yet */
  get(): Promise<SessionView>;
  /**
   * Closes it: what runs and waits is cancelled, its VM and workspace go. It may be repeated.
   * @param options.waitMs how long to wait for that, ms (default 30 s); the view has `end` once it is closed
   */
  close(options?: { readonly waitMs?: number }): Promise<SessionView>;
  /**
   * Deletes everything that the thread ever had; the session is closed first. It may be repeated.
   * @param options.waitMs how long to wait for the close, ms (default 30 s); `end.emptiedAt` says that all is gone
   * @throws NOT_FOUND
   */
  delete(options?: { readonly waitMs?: number }): Promise<SessionView>;
  /**
   * Lets it give up its VM until its next run, once its runs have ended and its workspace is in the store. Idempotent.
   * @param options.waitMs how long to wait for that, ms (default 30 s); `tier` says whether it is so
   * @throws NOT_FOUND
   */
  sleep(options?: { readonly waitMs?: number }): Promise<SessionView>;
  /** Copies it to another thread. @throws UNSUPPORTED: not possible yet */
  fork(thread: string, options?: { readonly turn?: number }): Promise<SessionView>;
}

/** The part of the client that sessions go through. */
export type SessionCalls = RunPlace['calls'] &
  Pick<
    RouteMethods,
    'createSession' | 'getSession' | 'closeSession' | 'deleteSession' | 'sleepSession' | 'forkSession' | 'sendRun'
  >;

const WAIT_MS = 25_000;

/** @returns the session of a thread. Nothing is called yet. */
export function createSession(calls: SessionCalls, thread: string, options: SessionOptions): Session {
  const { project, repeat, stream = {}, waitMs = WAIT_MS, ...settings } = options;
  const place: RunPlace = { calls, thread, project, repeat: { ...REPEAT_TIMINGS, ...repeat }, stream, waitMs };
  const begun = settingsBeforeRuns(place, calls, settings);
  const query = defined({ project });
  // One after another: runs of a thread go in the order in which they were taken.
  const line = createKeyedLock();
  const send = async (body: SendRunBody, signal: AbortSignal | undefined): Promise<RunView> => {
    signal?.throwIfAborted();
    await begun(body.ifEnded, signal);
    const request = { params: { thread }, query, body };
    return repeatCall(() => calls.sendRun(request, defined({ signal })), place.repeat, signal);
  };
  const sent = (what: Pick<SendRunBody, 'command' | 'message'>, asked: CommandOptions = {}): Run => {
    const { id = `r-${randomUUID()}`, signal, ...rest } = asked;
    const answer = line.run(thread, () => send({ ...rest, id, ...what }, signal));
    return createRun(place, id, answer, signal);
  };
  return {
    thread,
    command: (argv, asked) => sent({ command: [...argv] }, asked),
    run: (message, asked) => sent({ message }, asked),
    existing: (id, { signal } = {}) => {
      const look = () => calls.getRun({ params: { thread, id }, query }, defined({ signal }));
      return createRun(place, id, repeatCall(look, place.repeat, signal), signal);
    },
    get: () => calls.getSession({ params: { thread }, query }),
    close: (asked = {}) => calls.closeSession({ params: { thread }, query, body: { ...asked } }),
    delete: (asked = {}) => calls.deleteSession({ params: { thread }, query: { ...query, ...asked } }),
    sleep: (asked = {}) => calls.sleepSession({ params: { thread }, query, body: { ...asked } }),
    fork: (copy, asked = {}) => calls.forkSession({ params: { thread }, query, body: { ...asked, thread: copy } }),
  };
}

/** @returns what begins a session with its settings; once done it does nothing, unless the session may have ended */
function settingsBeforeRuns(
  { thread, project, repeat }: RunPlace,
  calls: Pick<SessionCalls, 'createSession'>,
  settings: SessionSettingsRequest,
): (ifEnded: 'restart' | undefined, signal: AbortSignal | undefined) => Promise<void> {
  let isDone = Object.keys(settings).length === 0;
  const needed = !isDone;
  return async (ifEnded, signal) => {
    // A run that restarts an ended session makes a new one, which is to have the settings too.
    if (!needed || (isDone && ifEnded === undefined)) return;
    const body = { ...settings, thread, ...defined({ ifEnded }) };
    const create = () => calls.createSession({ query: defined({ project }), body }, defined({ signal }));
    try {
      await repeatCall(create, repeat, signal);
      isDone = true;
    } catch (error) {
      // An ended one: the run may be one that it knows, and is answered; otherwise it is refused with the same code.
      if (isKilnError(error, 'SESSION_CLOSED', 'SESSION_EXPIRED')) return;
      if (!isKilnError(error, 'CONFLICT')) throw error;
      isDone = true;
    }
  };
}
