import { readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from '@temporalio/worker';
import { fetchChain } from '../../../client/temporal/archive/fetch-executions.ts';
import { type FetchedHistory, recordedEvents } from '../../../client/temporal/archive/recorded-events.ts';
import { createSessionClient, type SessionClient } from '../../../client/temporal/sessions/session-client.ts';
import { project } from '../../../domain/lifecycle/projector.ts';
import { sessionWorkflowId } from '../../../domain/names.ts';
import { DEFAULT_SESSION_POLICIES } from '../../../domain/policies.ts';
import type { EndedRun } from '../../../domain/session/run-book.ts';
import { MAX_CARRIED_BYTES } from '../../../domain/session/session-state.ts';
import { SESSION_LIFECYCLE } from '../../../domain/session/tiers.ts';
import { startServers } from '../../../test/support/servers/servers.global.ts';
import { readWorkflowBundle } from '../../../test/support/servers/workflow-bundle.ts';
import { sessionBooksOf } from '../../../test/support/workers/harness-workers.ts';
import { quietRuntime } from '../../../test/support/workers/kiln-harness.ts';
import { ProcessStack } from '../../../test/support/workers/process-stack.ts';
import { ended, ran, threadNamed, untilTier } from '../../../test/support/workers/session-steps.ts';
import type { Measurement } from '../../figure.ts';
import type { GroupOptions } from '../../group-options.ts';
import { carriedSizes, type LongLife, longLifeTable, wrongInLongLife } from '../../long-life.ts';

const NAME = threadNamed('long');
/** In the guest's workspace: each run adds its id. */
const NOTES = 'starts';
/** In the first half, every so many runs the session rests before the next one is sent. */
const REST_EVERY = 4;
/** And every so many it rests for longer than it waits before it continues as new. */
const LONG_REST_EVERY = 25;
const LONG_REST_MS = 500 + DEFAULT_SESSION_POLICIES.session.settleMs;
/** In the second half, so many runs are under way: the session never rests. */
const UNDER_WAY = 12;
/** Of the runs, so many are sent once more at the end, with the same ids. */
const SENT_AGAIN = 50;
const CLOSE_MS = 30_000;
const TIMINGS = { callMs: 60_000, queryMs: 5_000, pollerFreshMs: 60_000, backlogMs: 3_000 };

/**
 * One session with a run for each sample, over the fake driver, with the policies of production: half of them with rests in between,
 * half without any. Each run adds its id to a file of the workspace, so a second start would be seen.
 * @throws Error where a run is out of order, was not started exactly once, a history does not replay, or too much is carried on
 */
export async function measureSessionLong({ n, say, signal }: GroupOptions): Promise<readonly Measurement[]> {
  quietRuntime();
  const servers = await startServers();
  try {
    const stack = await ProcessStack.start(servers);
    try {
      const books = sessionBooksOf(stack.store, {});
      const sessions = createSessionClient({ client: stack.temporal, books, policies: {} });
      const ids = Array.from({ length: n }, (_, index) => `run-${index + 1}`);
      const runs = await live(sessions, { ids, say, signal });
      const started = await startsOf(sessions, stack.stateDir);
      await sessions.close(NAME, { waitMs: CLOSE_MS });
      const histories = await fetchChain({ client: stack.temporal, timings: TIMINGS }, idOf());
      const lived: LongLife = {
        sent: ids,
        runs,
        started,
        events: histories.map(({ events }) => events?.length ?? 0),
        carriedBytes: carriedSizes(histories),
      };
      project(SESSION_LIFECYCLE, recordedEvents(histories, 'KilnTier'));
      const replayed = await replay(histories, servers.workflowBundle);
      for (const line of longLifeTable(lived, replayed)) say(line);
      const wrong = wrongInLongLife(lived);
      if (wrong.length > 0) throw new Error(wrong.join('\n'));
      return figures(lived);
    } finally {
      await stack.close();
    }
  } finally {
    await servers.stop();
  }
}

const idOf = () => sessionWorkflowId({ ...NAME, incarnation: 1 });

interface Life extends Pick<GroupOptions, 'say' | 'signal'> {
  readonly ids: readonly string[];
}

/** Sends every run, and some of them twice. @returns how they ended, in the order in which they were sent */
async function live(sessions: SessionClient, { ids, say, signal }: Life): Promise<EndedRun[]> {
  const command = (id: string) => ['sh', '-c', `echo ${id} >> ${NOTES}`];
  const half = Math.ceil(ids.length / 2);
  for (const [index, id] of ids.entries()) {
    signal.throwIfAborted();
    if (index < half) {
      await ran(sessions, NAME, id, command(id));
      if (index % REST_EVERY === 0) await untilTier(sessions, NAME, 'warm');
      if ((index + 1) % LONG_REST_EVERY === 0) await delay(LONG_REST_MS, undefined, { signal });
    } else {
      await sessions.send(NAME, { id, command: command(id) });
      const before = ids[index - UNDER_WAY];
      if (before !== undefined && index - UNDER_WAY >= half) await ended(sessions, NAME, before);
    }
    if ((index + 1) % 100 === 0) say(`session-long: ${index + 1} of ${ids.length} sent`);
  }
  const runs: EndedRun[] = [];
  for (const id of ids) runs.push(await ended(sessions, NAME, id));
  for (const id of evenly(ids, SENT_AGAIN)) {
    await sessions.send(NAME, { id, command: command(id) });
    await ended(sessions, NAME, id);
  }
  return runs;
}

/** Reads the file from outside of the guest, which has its files in a folder of the host. @returns the ids in it */
async function startsOf(sessions: SessionClient, stateDir: string): Promise<string[]> {
  const { state } = await sessions.get(NAME);
  const guest = join(stateDir, 'vms', state?.place?.vmId ?? '', 'fake');
  const path = (await readdir(guest, { recursive: true })).find((file) => basename(file) === NOTES);
  if (path === undefined) throw new Error('no run has noted that it was started');
  return (await readFile(join(guest, path), 'utf8')).trim().split('\n');
}

function evenly(ids: readonly string[], count: number): string[] {
  const step = Math.max(1, Math.floor(ids.length / count));
  return ids.filter((_, index) => index % step === 0);
}

/** @returns how many replayed. @throws Error where one does not */
async function replay(histories: readonly FetchedHistory[], bundlePath: string): Promise<number> {
  const workflowBundle = await readWorkflowBundle(bundlePath);
  const replays = histories.map((history) => ({ workflowId: idOf(), history }));
  let replayed = 0;
  for await (const { error } of Worker.runReplayHistories({ workflowBundle }, replays)) {
    if (error) throw new Error(`execution ${replayed + 1} does not replay: ${error.message}`, { cause: error });
    replayed += 1;
  }
  return replayed;
}

/** Each against the limit that the session keeps by itself. */
function figures({ events, carriedBytes }: LongLife): Measurement[] {
  const { continueAnywayAfter } = DEFAULT_SESSION_POLICIES.session;
  const length: Measurement = {
    name: 'session-history',
    unit: 'events',
    kiln: events,
    rival: {
      words: 'the length after which a session that never rests continues as new',
      samples: [continueAnywayAfter],
    },
  };
  const carried: Measurement = {
    name: 'session-carried',
    unit: 'bytes',
    kiln: carriedBytes,
    rival: { words: 'the most that a session may carry on', samples: [MAX_CARRIED_BYTES] },
  };
  return carriedBytes.length === 0 ? [length] : [length, carried];
}
