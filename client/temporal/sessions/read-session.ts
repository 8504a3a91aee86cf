/** Reads sessions and their runs: the record first, then the workflow, then what is on record of runs. */
import { QueryNotRegisteredError } from '@temporalio/client';
import { KilnError } from '../../../domain/failures.ts';
import { type SessionName, sessionWorkflowId, type ThreadName } from '../../../domain/names.ts';
import { isUnsure, type KnownRun } from '../../../domain/session/run-book.ts';
import type { SessionRecord } from '../../../domain/session/session-record.ts';
import type { LocatedRun, SessionView } from '../../../domain/session/session-state.ts';
import { runQuery, runsQuery, sessionQuery } from '../../../workflows/session/session-messages.ts';
import { whyNoAnswer } from '../task-queue-pollers.ts';
import { isNoWorkflow, isUnavailable, withDeadline } from '../temporal-calls.ts';
import type { SessionClientContext } from './session-client-context.ts';
import { mustRead, nameOf } from './session-names.ts';

export interface SessionSnapshot {
  readonly record: SessionRecord;
  /** Absent where the session has ended, or nothing was sent to it yet. */
  readonly state?: SessionView;
}

/** @throws NOT_FOUND, STORE_UNAVAILABLE, TEMPORAL_UNAVAILABLE */
export async function readSession(context: SessionClientContext, name: ThreadName): Promise<SessionSnapshot> {
  const record = await mustRead(context, name);
  if (record.end !== undefined) return { record };
  const state = await ask(context, nameOf(record), (handle) => handle.query(sessionQuery));
  return state === undefined ? { record } : { record, state };
}

/** @throws NOT_FOUND, STORE_UNAVAILABLE, TEMPORAL_UNAVAILABLE */
export async function locateRun(context: SessionClientContext, name: ThreadName, runId: string): Promise<LocatedRun> {
  const known = context.lately.get(name);
  const record = known ?? (await mustRead(context, name));
  const look = await lookFor(context, record, runId);
  // A run that waits may have ended in an earlier session, which the workflow learns only when it is its turn.
  if (look !== undefined && !isUnsure(look.run)) return look;
  const found = await context.books.runs.read(name, runId);
  if (found !== undefined) {
    const session = { ...nameOf(record), incarnation: found.incarnation };
    return { run: { state: 'ended', run: found.run }, nextTurn: 0, session };
  }
  if (look !== undefined) return look;
  if (known !== undefined) {
    // Another process may have begun a later session of the thread.
    context.lately.forget(name);
    const later = await lookFor(context, await mustRead(context, name), runId);
    if (later !== undefined) return later;
  }
  throw new KilnError('NOT_FOUND', `Thread ${name.thread} knows no run ${runId}.`);
}

/** @returns undefined where the workflow of this session is over, or knows nothing of the run */
async function lookFor(
  context: SessionClientContext,
  record: SessionRecord,
  runId: string,
): Promise<LocatedRun | undefined> {
  if (record.end !== undefined) return undefined;
  const look = await ask(context, nameOf(record), (handle) => handle.query(runQuery, { runId }));
  return look?.run && { ...look, run: look.run, session: nameOf(record) };
}

/** @throws NOT_FOUND, STORE_UNAVAILABLE, TEMPORAL_UNAVAILABLE */
export async function listRuns(
  context: SessionClientContext,
  name: ThreadName,
  limit: number,
): Promise<readonly KnownRun[]> {
  const record = await mustRead(context, name);
  const asked = (handle: Handle) => handle.query(runsQuery, { limit });
  const known = record.end === undefined ? await ask(context, nameOf(record), asked) : undefined;
  if (known !== undefined) return known;
  const last = await context.books.runs.last(name, limit);
  return last
    .filter(({ incarnation }) => incarnation === record.incarnation)
    .map(({ run }) => ({ state: 'ended', run }));
}

type Handle = ReturnType<SessionClientContext['client']['workflow']['getHandle']>;

/** @returns undefined where there is no open workflow. @throws TEMPORAL_UNAVAILABLE where no worker answers */
async function ask<T>(
  context: SessionClientContext,
  name: SessionName,
  query: (handle: Handle) => Promise<T>,
): Promise<T | undefined> {
  const { client, timings } = context;
  const handle = client.workflow.getHandle(sessionWorkflowId(name));
  try {
    return await withDeadline(client, timings.queryMs, () => query(handle));
  } catch (error) {
    if (isNoWorkflow(error)) return undefined;
    // Its first task has not been worked on yet.
    const isLate = isUnavailable(error) || error instanceof QueryNotRegisteredError;
    if (isLate) throw new KilnError('TEMPORAL_UNAVAILABLE', await whyNoAnswer(context), {}, error);
    throw error;
  }
}
