/** Handlers of the routes of sessions and their runs. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { LocatedRun, SessionClient, SessionSnapshot } from '../../client/temporal/sessions/session-client.ts';
import type { SESSION_ROUTES } from '../../contracts/api/routes/sessions.ts';
import type { RunRequestBody, SendRunBody } from '../../contracts/api/session-request.ts';
import { runView, type SessionView, sessionView } from '../../contracts/api/session-view.ts';
import { KilnError } from '../../domain/failures.ts';
import { DEFAULT_PROJECT, sessionWorkflowId, type ThreadName } from '../../domain/names.ts';
import type { KnownRun } from '../../domain/session/run-book.ts';
import type { RunOutputs } from '../../store/sessions/run-outputs.ts';
import { sendEvents } from '../event-stream.ts';
import type { HostEntries } from '../hosts/host-entries.ts';
import type { GatewayLogger } from '../problem-replies.ts';
import type { RouteHandlers } from '../route-binding.ts';
import { type FollowRunOutput, outputPieceOf } from './host-run-output.ts';
import { notThereYet, refuseWithoutSessions } from './not-there-yet.ts';
import { type RunFollowLimits, type RunFollowOptions, untilEnded } from './run-follow.ts';
import { type RunStreamOptions, streamRun } from './run-stream.ts';
import { untilSaved } from './until-saved.ts';

type SessionHandlers = Pick<RouteHandlers, keyof typeof SESSION_ROUTES>;
type RunHandlers = Pick<SessionHandlers, 'sendRun' | 'listRuns' | 'getRun' | 'cancelRun' | 'streamRunOutput'>;

export interface SessionHandlerOptions {
  readonly sessions: SessionClient;
  readonly follow: FollowRunOutput;
  readonly outputs: Pick<RunOutputs, 'read'>;
  readonly hosts: Pick<HostEntries, 'read'>;
  readonly log: GatewayLogger;
  readonly limits: RunFollowLimits & { readonly maxStreams: number; readonly slowReaderMs: number };
  /** @returns the page of a workflow in the Temporal Web UI. */
  readonly temporalUrl?: (workflowId: string) => string;
  /** Aborted when the gateway ends. */
  readonly ending: AbortSignal;
}

export function sessionHandlers(options: SessionHandlerOptions): SessionHandlers {
  const { sessions } = options;
  return {
    async createSession({ query, body: { thread, ifEnded, ...settings } }) {
      const { snapshot, created } = await sessions.create(threadOf(thread, query), settings, { ifEnded });
      return { status: created ? 201 : 200, body: view(options, snapshot) };
    },
    async listSessions({ query: { project, tier, cursor, limit } }) {
      return { status: 200, body: await sessions.list({ project, tier, cursor, limit }) };
    },
    async getSession({ params, query }) {
      return { status: 200, body: view(options, await sessions.get(threadOf(params.thread, query))) };
    },
    async patchSession({ params, query, body }) {
      return { status: 200, body: view(options, await sessions.patch(threadOf(params.thread, query), body)) };
    },
    async closeSession({ params, query, body }) {
      const { snapshot, settled } = await sessions.close(threadOf(params.thread, query), { waitMs: body.waitMs });
      return { status: settled ? 200 : 202, body: view(options, snapshot) };
    },
    async deleteSession({ params, query }) {
      const { snapshot, settled } = await sessions.delete(threadOf(params.thread, query), { waitMs: query.waitMs });
      return { status: settled ? 200 : 202, body: view(options, snapshot) };
    },
    async sleepSession({ params, query, body }) {
      const name = threadOf(params.thread, query);
      const first = await sessions.sleep(name);
      const late = AbortSignal.any([options.ending, AbortSignal.timeout(body.waitMs)]);
      const look = async () => asleep(await sessions.get(name));
      const asleepNow = asleep(first) ?? (await untilSaved(look, { ...options.limits, signal: late }));
      return { status: asleepNow === undefined ? 202 : 200, body: view(options, asleepNow ?? first) };
    },
    async forkSession() {
      throw notThereYet('fork');
    },
    ...runHandlers(options),
  };
}

function runHandlers(options: SessionHandlerOptions): RunHandlers {
  const { sessions } = options;
  return {
    async sendRun({ params, query, body }) {
      const name = threadOf(params.thread, query);
      const sent = await sessions.send(name, commandOf(body));
      const over = AbortSignal.any([options.ending, AbortSignal.timeout(query.waitMs)]);
      const waits = query.wait !== undefined && sent.state !== 'ended';
      const run = waits ? await endOf(options, name, sent, over) : sent;
      const isOver = run.state === 'ended';
      if (query.wait !== 'saved' || !isOver) return { status: isOver ? 200 : 202, body: runView(name, run) };
      const look = async () => savedAt(await sessions.run(name, body.id ?? run.run.id));
      const saved = await untilSaved(look, { ...options.limits, signal: over });
      return {
        status: saved === undefined ? 202 : 200,
        body: runView(name, run, saved === undefined ? 0 : saved.turn),
      };
    },
    async listRuns({ params, query }) {
      const name = threadOf(params.thread, query);
      const runs = await sessions.runs(name, query.limit);
      return { status: 200, body: { items: runs.map((run) => runView(name, run)) } };
    },
    async getRun({ params, query }) {
      const name = threadOf(params.thread, query);
      const { run, savedTurn } = await sessions.run(name, params.id);
      if (query.waitMs === 0 || run.state === 'ended') return { status: 200, body: runView(name, run, savedTurn) };
      const over = AbortSignal.any([options.ending, AbortSignal.timeout(query.waitMs)]);
      return { status: 200, body: runView(name, await endOf(options, name, run, over)) };
    },
    async cancelRun({ params, query }) {
      const name = threadOf(params.thread, query);
      const run = await sessions.cancel(name, params.id);
      return { status: run.state === 'ended' ? 200 : 202, body: runView(name, run) };
    },
    streamRunOutput: streamHandler(options),
  };
}

/** @throws UNSUPPORTED where it is a message */
function commandOf({ command, message, ...rest }: SendRunBody): RunRequestBody {
  if (command === undefined || message !== undefined) throw notThereYet('message');
  return { ...rest, command };
}

export function threadOf(thread: string, { project = DEFAULT_PROJECT }: { project?: string }): ThreadName {
  return { project, thread };
}

/** @returns undefined while the session has a VM */
function asleep(snapshot: SessionSnapshot): SessionSnapshot | undefined {
  const tier = snapshot.state?.tier;
  return tier === undefined || tier === 'cold' || tier === 'new' ? snapshot : undefined;
}

/** @returns undefined while a save of what the run has left is to be waited for */
function savedAt({ run, savedTurn, nextTurn }: LocatedRun): { readonly turn: number | undefined } | undefined {
  if (run.state !== 'ended') return undefined;
  // One that never started has changed nothing; and of a session that has ended nothing more will be saved.
  if (run.run.turn === undefined || nextTurn === 0) return { turn: savedTurn };
  return savedTurn !== undefined && savedTurn >= run.run.turn ? { turn: savedTurn } : undefined;
}

function endOf(
  options: SessionHandlerOptions,
  name: ThreadName,
  known: KnownRun,
  over: AbortSignal,
): Promise<KnownRun> {
  return untilEnded(following(options, name, known.run.id, over), known);
}

function following(
  { sessions, follow, outputs, hosts, limits }: SessionHandlerOptions,
  name: ThreadName,
  runId: string,
  signal: AbortSignal,
): RunFollowOptions {
  return {
    locate: () => sessions.run(name, runId),
    host: (hostId) => hosts.read(hostId),
    follow,
    // A run that never started has no output.
    stored: async (session, { id: runId, vm }, after) =>
      vm === undefined ? [] : (await outputs.read({ session, runId, vmId: vm.vmId }, after)).map(outputPieceOf),
    limits,
    signal,
  };
}

function streamHandler(options: SessionHandlerOptions): RouteHandlers['streamRunOutput'] {
  const { limits } = options;
  let open = 0;
  return async ({ params, query }, request, reply) => {
    if (open >= limits.maxStreams) {
      throw new KilnError('QUEUE_FULL', `This gateway follows ${limits.maxStreams} runs already; try again.`);
    }
    const name = threadOf(params.thread, query);
    const after = startOf(request, query.after);
    open += 1;
    try {
      // Any error of the request is answered as a problem before the stream begins.
      const found = options.sessions.sentLately(name, params.id) ?? (await options.sessions.run(name, params.id));
      await runStream(options, found, { name, after }, reply);
    } finally {
      open -= 1;
    }
  };
}

/** A client that reconnects sends its position in `Last-Event-ID`, which overrides its first request. */
function startOf(request: FastifyRequest, after: number | undefined): number {
  const last = request.headers['last-event-id'];
  return typeof last === 'string' && /^\d{1,15}$/.test(last) ? Number(last) : (after ?? 0);
}

function runStream(
  options: SessionHandlerOptions,
  found: LocatedRun,
  { name, after }: Pick<RunStreamOptions, 'name' | 'after'>,
  reply: FastifyReply,
): Promise<void> {
  const { limits, log, ending } = options;
  const { thread } = name;
  const { id: runId } = found.run.run;
  const looks = [found];
  const onBroken = (code: string) => log.warn({ code, thread, runId }, 'a stream of output broke off');
  return sendEvents(reply, { retryMs: limits.lookMs, ending, onBroken }, (response, signal) =>
    streamRun(response, {
      ...following(options, name, runId, signal),
      locate: async () => looks.shift() ?? options.sessions.run(name, runId),
      name,
      after,
      slowReaderMs: limits.slowReaderMs,
    }),
  );
}

function view({ temporalUrl }: SessionHandlerOptions, { record, state }: SessionSnapshot): SessionView {
  return sessionView(record, state, temporalUrl?.(sessionWorkflowId(record)));
}

/** @returns handlers of a gateway that was given no sessions */
export function noSessionHandlers(): SessionHandlers {
  const refuse = refuseWithoutSessions;
  return {
    createSession: refuse,
    listSessions: refuse,
    getSession: refuse,
    patchSession: refuse,
    closeSession: refuse,
    deleteSession: refuse,
    sleepSession: refuse,
    forkSession: refuse,
    sendRun: refuse,
    listRuns: refuse,
    getRun: refuse,
    cancelRun: refuse,
    streamRunOutput: refuse,
  };
}
