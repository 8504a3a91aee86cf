/** Updates of a session's workflow, which start it where it does not run yet. */
import {
  WithStartWorkflowOperation,
  WorkflowExecutionAlreadyStartedError,
  WorkflowUpdateFailedError,
} from '@temporalio/client';
import { ApplicationFailure, defineSearchAttributeKey, type UpdateDefinition } from '@temporalio/common';
import { isFailureCode, KilnError } from '../../../domain/failures.ts';
import { hash64 } from '../../../domain/hash64.ts';
import { code } from '../../../domain/markdown-text.ts';
import { type SessionName, sessionId, sessionWorkflowId } from '../../../domain/names.ts';
import type { SessionRecord } from '../../../domain/session/session-record.ts';
import type { SessionInput } from '../../../domain/session/session-state.ts';
import { SESSION_WORKFLOW } from '../../../workflows/session/session-messages.ts';
import type { sessionWorkflow } from '../../../workflows/session/session-workflow.ts';
import { isNoWorkflow, sentUntilReady, withDeadline } from '../temporal-calls.ts';
import { mintId } from '../workloads/create-workload.ts';
import type { SessionClientContext } from './session-client-context.ts';
import { nameOf } from './session-names.ts';

/** Updates of one kind and one session that a process sends at a time: the server refuses the eleventh under way. */
const LANES = 4;
/** Tries of an update that is sent while sessions of its thread end and begin. */
export const MAX_TRIES = 5;

/**
 * Sends an update.
 * @param order the same id goes through the same lane, so that two of them never meet
 * @returns 'over' where the workflow of this session is closed
 * @throws the code that the workflow refused with; TEMPORAL_UNAVAILABLE, also where the deadline passes
 */
export async function updateOrStart<Answer, Order extends { readonly id: string }>(
  context: SessionClientContext,
  record: SessionRecord,
  update: UpdateDefinition<Answer, [Order]>,
  order: Order,
  deadlineMs: number,
): Promise<Answer | 'over'> {
  const { client } = context;
  const [, low] = hash64(order.id);
  return context.lanes.run(`${sessionId(nameOf(record))}#${update.name}-${low % LANES}`, async () => {
    try {
      return await withDeadline(client, deadlineMs, () =>
        sentUntilReady(() =>
          client.workflow.executeUpdateWithStart(update, {
            startWorkflowOperation: startOf(context, record),
            args: [order],
            // One for each call: under an older one the server would repeat its answer of then.
            updateId: mintId('u'),
          }),
        ),
      );
    } catch (error) {
      if (error instanceof WorkflowUpdateFailedError) throw refused(error);
      if (error instanceof WorkflowExecutionAlreadyStartedError || isNoWorkflow(error)) return 'over';
      throw error;
    }
  });
}

function startOf(
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

/** @returns what the workflow refused with */
export function refused(error: WorkflowUpdateFailedError): KilnError {
  const { cause } = error;
  const type = cause instanceof ApplicationFailure ? cause.type : undefined;
  return new KilnError(isFailureCode(type) ? type : 'INTERNAL', cause?.message ?? error.message, {}, error);
}

const ENDED = ['TERMINATED', 'CANCELLED', 'FAILED', 'TIMED_OUT', 'COMPLETED'] as const;

/** @returns the failure of a call of which nothing is known */
export function unknownOutcome(thread: string, cause?: unknown): KilnError {
  const message = `Temporal did not answer in time for thread ${thread}: whether it was taken is not known. Repeat it with the same id.`;
  return new KilnError('TEMPORAL_UNAVAILABLE', message, {}, cause);
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
    () => undefined,
  );
  if (!ENDED.some((name) => name === status)) return unknownOutcome(record.thread);
  const at = new Date().toISOString();
  await books.sessions.end(nameOf(record), { as: 'closed', at, cause: 'STOPPED_IN_TEMPORAL', lastTurn: 0 });
  return new KilnError(
    'SESSION_CLOSED',
    `The workflow of thread ${record.thread} was ended in Temporal. A run with ifEnded "restart" begins a new session.`,
  );
}
