/** What the recorder reads from Temporal: closed executions, their events, and workloads that left something behind. */
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js';
import { defined } from '../../../domain/defined.ts';
import { KilnError } from '../../../domain/failures.ts';
import { workloadIdOf } from '../../../domain/names.ts';
import { WORKLOAD_WORKFLOW } from '../../../workflows/messages.ts';
import { SESSION_WORKFLOW } from '../../../workflows/session/session-messages.ts';
import type { ClientContext } from '../client-context.ts';
import { isNoWorkflow, withDeadline } from '../temporal-calls.ts';

export interface ClosedExecution {
  readonly workflowId: string;
  readonly executionId: string;
  /** ISO 8601. */
  readonly closedAt: string;
  /** Whether another execution of the same workflow continues it. */
  readonly continued: boolean;
}

export interface FetchedExecution {
  readonly workflowId: string;
  readonly executionId: string;
  /** Execution that this one continues. */
  readonly continuedFrom?: string;
  readonly events: number;
  /** The history in the format that the SDK replays. */
  readonly json: string;
}

export interface ClosedExecutions {
  /**
   * One page of the closed executions of workloads and sessions, from the index, which shows a close after a short delay.
   * @param query.token `next` of the page before, with the same `closedAfter` @throws TEMPORAL_UNAVAILABLE
   */
  list(query: {
    readonly closedAfter?: string;
    readonly pageSize: number;
    readonly token?: string;
  }): Promise<{ items: ClosedExecution[]; next?: string }>;
  /** The newest execution of a workflow, by the server's own state. @returns undefined where there is none */
  latest(workflowId: string): Promise<{ executionId: string; open: boolean } | undefined>;
  /** @throws NOT_FOUND where Temporal has forgotten it, TEMPORAL_UNAVAILABLE */
  fetch(workflowId: string, executionId: string): Promise<FetchedExecution>;
  /** Workloads that ended with something unreleased, or without any clean-up. @returns at most `limit` ids */
  listUnreleased(limit: number): Promise<string[]>;
}

const UNRELEASED = `(KilnAttention = 'UNRELEASED' OR ExecutionStatus IN ('Terminated', 'TimedOut'))`;
const WORKLOADS = `'${WORKLOAD_WORKFLOW}'`;
const RECORDED_TYPES = `${WORKLOADS}, '${SESSION_WORKFLOW}'`;
const CONTINUED_AS_NEW = 6;

/** @returns the closed executions that Temporal has. */
export function createClosedExecutions(context: Pick<ClientContext, 'client' | 'timings'>): ClosedExecutions {
  const { client, timings } = context;
  const page = (types: string, query: string, pageSize: number, token: string | undefined) =>
    withDeadline(client, timings.callMs, () =>
      client.workflowService.listWorkflowExecutions({
        namespace: client.options.namespace,
        pageSize,
        query: `WorkflowType IN (${types}) AND ${query}`,
        ...(token === undefined ? {} : { nextPageToken: Buffer.from(token, 'base64') }),
      }),
    );
  return {
    list: async ({ closedAfter, pageSize, token }) => {
      const since = closedAfter === undefined ? '' : ` AND CloseTime >= '${closedAfter}'`;
      const { executions, nextPageToken } = await page(
        RECORDED_TYPES,
        `ExecutionStatus != 'Running'${since}`,
        pageSize,
        token,
      );
      const next =
        nextPageToken && nextPageToken.length > 0 ? Buffer.from(nextPageToken).toString('base64') : undefined;
      return { items: (executions ?? []).flatMap(closed), ...defined({ next }) };
    },
    latest: (workflowId) => latest(context, workflowId),
    fetch: (workflowId, executionId) => fetchExecution(context, workflowId, executionId),
    listUnreleased: async (limit) => {
      const { executions } = await page(WORKLOADS, `ExecutionStatus != 'Running' AND ${UNRELEASED}`, limit, undefined);
      return (executions ?? []).flatMap(({ execution }) => workloadIdOf(execution?.workflowId ?? '') ?? []);
    },
  };
}

type Listed = Parameters<typeof isoTime>[0];

function closed(info: {
  execution?: { workflowId?: string | null; runId?: string | null } | null;
  closeTime?: Listed;
  status?: number | null;
}): ClosedExecution[] {
  const { workflowId, runId } = info.execution ?? {};
  if (!workflowId || !runId) return [];
  const continued = info.status === CONTINUED_AS_NEW;
  return [{ workflowId, executionId: runId, closedAt: isoTime(info.closeTime), continued }];
}

async function latest({ client, timings }: Pick<ClientContext, 'client' | 'timings'>, workflowId: string) {
  try {
    const handle = client.workflow.getHandle(workflowId);
    const { runId, status } = await withDeadline(client, timings.callMs, () => handle.describe());
    return { executionId: runId, open: status.name === 'RUNNING' };
  } catch (error) {
    if (isNoWorkflow(error)) return undefined;
    throw error;
  }
}

async function fetchExecution(
  { client, timings }: Pick<ClientContext, 'client' | 'timings'>,
  workflowId: string,
  executionId: string,
): Promise<FetchedExecution> {
  try {
    const handle = client.workflow.getHandle(workflowId, executionId);
    const history = await withDeadline(client, timings.callMs, () => handle.fetchHistory());
    const start = history.events?.[0]?.workflowExecutionStartedEventAttributes;
    const continuedFrom = start?.continuedExecutionRunId || undefined;
    return {
      workflowId,
      executionId,
      ...defined({ continuedFrom }),
      events: history.events?.length ?? 0,
      json: historyToJSON(history),
    };
  } catch (error) {
    if (!isNoWorkflow(error)) throw error;
    throw new KilnError('NOT_FOUND', `Temporal has forgotten the execution ${executionId} of ${workflowId}.`);
  }
}

function isoTime(time: { seconds?: unknown; nanos?: number | null } | null | undefined): string {
  return new Date(Number(time?.seconds ?? 0) * 1000 + Math.floor((time?.nanos ?? 0) / 1e6)).toISOString();
}
