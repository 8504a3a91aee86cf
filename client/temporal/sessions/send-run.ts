/** Sends runs: the workflow of the session is the claim to an id, so no store is asked on the way of a message. */
import {
  WithStartWorkflowOperation,
  WorkflowExecutionAlreadyStartedError,
  WorkflowUpdateFailedError,
} from '@temporalio/client';
import { ApplicationFailure, defineSearchAttributeKey } from '@temporalio/common';
import type { RunRequestBody } from '../../../contracts/api/session-request.ts';
import { canonicalHash } from '../../../contracts/canonical-json.ts';
import { isFailureCode, KilnError } from '../../../domain/failures.ts';
import { code } from '../../../domain/markdown-text.ts';
import { type SessionName, sessionWorkflowId, type ThreadName } from '../../../domain/names.ts';
import { DEFAULT_SESSION_POLICIES } from '../../../domain/policies.ts';
import type { EndedRun, KnownRun, RunOrder } from '../../../domain/session/run-book.ts';
import type { SessionRecord } from '../../../domain/session/session-record.ts';
import type { SessionInput } from '../../../domain/session/session-state.ts';
import { SESSION_WORKFLOW, sendRunUpdate } from '../../../workflows/session/session-messages.ts';
import type { sessionWorkflow } from '../../../workflows/session/session-workflow.ts';
import { isNoWorkflow, isUnavailable, withDeadline } from '../temporal-calls.ts';
import { mintId } from '../workloads/create-workload.ts';
import type { SessionClientContext } from './session-client-context.ts';
import { nameOf, openRecord } from './session-names.ts';

/** Updates of one thread that a process sends at a time. */
export const LANES = 4;
/** Tries of an update that is sent while sessions of its thread end and begin. */
export const MAX_TRIES = 5;

/** @throws as `SessionClient.send` */
export async function sendRun(
  context: SessionClientContext,
  name: ThreadName,
  { id = mintId('r'), ...request }: RunRequestBody,
): Promise<KnownRun> {
  const bodyHash = await bodyHashOf(request);
  for (let tries = 1; ; tries++) {
    const record = await openRecord(context, name, { ifEnded: request.ifEnded }).catch(async (error: unknown) => {
      const ended = await endedRun(context, name, id, bodyHash);
      if (ended === undefined) throw error;
      return ended;
    });
    if ('state' in record) return record;
    const order = await orderOf(context, nameOf(record), id, bodyHash, request);
    const taken = await context.lanes.run(laneOf(name, order.idSha256), () => offer(context, record, order));
    if (taken !== 'over') return taken;
    // The record was too old, or the workflow was ended from outside: its own record decides.
    context.lately.forget(name);
    if (tries >= MAX_TRIES) throw await overInTemporal(context, record);
  }
}

/** @returns how a run of that id ended in any session of the thread. @throws CONFLICT where it had another body */
async function endedRun(
  { books }: SessionClientContext,
  name: ThreadName,
  runId: string,
  bodyHash: string,
): Promise<(KnownRun & { state: 'ended' }) | undefined> {
  const found = (await books.runs.read(name, runId))?.run;
  if (found === undefined) return undefined;
  if (found.bodyHash === bodyHash) return { state: 'ended', run: found };
  throw otherBody(found);
}

function otherBody({ id }: EndedRun): KilnError {
  return new KilnError('CONFLICT', `The run ${id} had another body; choose another id, or send the same body.`);
}

/** @returns 'over' where the workflow of this session is closed */
async function offer(
  context: SessionClientContext,
  record: SessionRecord,
  order: RunOrder,
): Promise<KnownRun | 'over'> {
  const { client, timings } = context;
  const startWorkflowOperation = startOf(context, record);
  try {
    return await withDeadline(client, timings.sendMs, () =>
      client.workflow.executeUpdateWithStart(sendRunUpdate, {
        startWorkflowOperation,
        args: [order],
        // One for each call: under an older one the server would repeat its answer of then.
        updateId: mintId('u'),
      }),
    );
  } catch (error) {
    if (error instanceof WorkflowUpdateFailedError) throw refused(error);
    if (isOver(error)) return 'over';
    throw isUnavailable(error) ? unknownOutcome(record.thread, error) : error;
  }
}

/** @returns the start of a session's workflow where it does not run yet */
export function startOf(
  { taskQueue, policies }: SessionClientContext,
  { settings, ...record }: SessionRecord,
): WithStartWorkflowOperation<typeof sessionWorkflow> {
  const name: SessionName = nameOf({ settings, ...record });
  const input: SessionInput = { schemaVersion: 1, name, settings, ...(policies === undefined ? {} : { policies }) };
  const keyword = (attribute: string, value: string) => ({
    key: defineSearchAttributeKey(attribute, 'KEYWORD'),
    value,
  });
  return new WithStartWorkflowOperation<typeof sessionWorkflow>(SESSION_WORKFLOW, {
    args: [input],
    taskQueue,
    workflowId: sessionWorkflowId(name),
    workflowIdConflictPolicy: 'USE_EXISTING',
    workflowIdReusePolicy: 'REJECT_DUPLICATE',
    staticSummary: `session of ${code(name.thread, 100)}`,
    memo: { createdAt: record.createdAt },
    typedSearchAttributes: [
      keyword('KilnTier', 'new'),
      keyword('KilnProject', name.project),
      keyword('KilnThread', name.thread),
    ],
  });
}

/** @returns whether an update found the workflow of its session closed */
export function isOver(error: unknown): boolean {
  return error instanceof WorkflowExecutionAlreadyStartedError || isNoWorkflow(error);
}

const ENDED_FROM_OUTSIDE: ReadonlySet<string> = new Set([
  'TERMINATED',
  'CANCELLED',
  'FAILED',
  'TIMED_OUT',
  'COMPLETED',
]);

function unknownOutcome(thread: string, cause?: unknown): KilnError {
  const message = `Temporal did not answer in time for thread ${thread}: whether the run was taken is not known. Repeat it with the same id.`;
  return new KilnError('TEMPORAL_UNAVAILABLE', message, {}, cause);
}

/** @returns what the workflow refused with */
export function refused(error: WorkflowUpdateFailedError): KilnError {
  const { cause } = error;
  const type = cause instanceof ApplicationFailure ? cause.type : undefined;
  return new KilnError(isFailureCode(type) ? type : 'INTERNAL', cause?.message ?? error.message, {}, error);
}

async function orderOf(
  { books }: SessionClientContext,
  session: SessionName,
  id: string,
  bodyHash: string,
  { command, env = {}, timeoutMs, repeatable = false }: Omit<RunRequestBody, 'id'>,
): Promise<RunOrder> {
  const { body, bytes } = await books.requests.seal(session, id, { argv: command, env });
  return {
    id,
    idSha256: await sha256(id),
    bodyHash,
    bytes,
    body,
    timeoutMs: timeoutMs ?? DEFAULT_SESSION_POLICIES.run.timeoutMs,
    repeatable,
  };
}

/** What makes two requests of one id the same; what becomes of an ended thread is not part of it. */
function bodyHashOf({ command, env, timeoutMs, repeatable }: Omit<RunRequestBody, 'id'>): Promise<string> {
  return canonicalHash({ command, env, timeoutMs, repeatable });
}

async function sha256(text: string): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text));
  return Buffer.from(digest).toString('hex');
}

function laneOf({ project, thread }: ThreadName, idSha256: string): string {
  return `${project}/${thread}#${Number.parseInt(idSha256.slice(0, 8), 16) % LANES}`;
}

/**
 * A workflow that was ended from outside left its record open: the next session begins only once that is closed. Only
 * Temporal's own word that it is closed counts: a namespace that is not there has no workflow either.
 */
export async function overInTemporal(
  { client, timings, books }: SessionClientContext,
  record: SessionRecord,
): Promise<KilnError> {
  const handle = client.workflow.getHandle(sessionWorkflowId(nameOf(record)));
  const status = await withDeadline(client, timings.callMs, () => handle.describe()).then(
    (found) => found.status.name,
    () => 'unknown',
  );
  if (!ENDED_FROM_OUTSIDE.has(status)) return unknownOutcome(record.thread);
  const at = new Date().toISOString();
  await books.sessions.end(nameOf(record), { as: 'closed', at, cause: 'STOPPED_IN_TEMPORAL', lastTurn: 0 });
  return new KilnError(
    'SESSION_CLOSED',
    `The workflow of thread ${record.thread} was ended in Temporal. A run with ifEnded "restart" begins a new session.`,
  );
}
