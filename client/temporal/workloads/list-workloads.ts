/** List: from Temporal's visibility, page by page. */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { badCursor, decodeCursor, encodeCursor } from '../../../contracts/api/cursor.ts';
import type { WorkloadPage, WorkloadSummary } from '../../../contracts/api/workload-view.ts';
import { isoTimeSchema } from '../../../contracts/identifiers.ts';
import { workloadIdOf } from '../../../domain/names.ts';
import { isFinal, type Stage } from '../../../domain/workload/stages.ts';
import { WORKLOAD_WORKFLOW } from '../../../workflows/messages.ts';
import type { ClientContext, ListWorkloads } from '../client-context.ts';
import { withDeadline } from '../temporal-calls.ts';
import { recordedStage } from './recorded-state.ts';

const pageCursor = z.object({ token: z.base64().max(6000), of: z.string().max(64) });

type Listed = NonNullable<
  Awaited<ReturnType<ClientContext['client']['workflowService']['listWorkflowExecutions']>>['executions']
>[number];
type Payloads = Readonly<Record<string, { data?: Uint8Array | null }>> | null | undefined;

/** @throws SPEC_INVALID (cursor), STORE_UNAVAILABLE, TEMPORAL_UNAVAILABLE */
export async function listWorkloads(context: ClientContext, query: ListWorkloads): Promise<WorkloadPage> {
  const { client, timings } = context;
  const token = query.cursor === undefined ? undefined : tokenOf(query.cursor, query);
  const reply = await withDeadline(client, timings.callMs, () =>
    client.workflowService.listWorkflowExecutions({
      namespace: client.options.namespace,
      pageSize: query.limit,
      query: visibilityQuery(query),
      ...(token === undefined ? {} : { nextPageToken: Buffer.from(token, 'base64') }),
    }),
  );
  const next = reply.nextPageToken;
  const items = (reply.executions ?? []).flatMap((execution) => summary(execution) ?? []);
  return {
    items: await Promise.all(items.map((item) => withoutOldAttention(context, item))),
    ...(next && next.length > 0 ? { next: nextCursor(Buffer.from(next).toString('base64'), query) } : {}),
  };
}

/** A closed workflow keeps its attributes for ever; the archive knows whether something is still unreleased. */
async function withoutOldAttention({ archive }: ClientContext, item: WorkloadSummary): Promise<WorkloadSummary> {
  if (item.attention !== 'UNRELEASED' || !isFinal(item.stage)) return item;
  const [state, releases] = await Promise.all([archive.result(item.id), archive.releases(item.id)]);
  const isFreed = state?.unreleased.every(({ hostId }) => releases.some((release) => release.hostId === hostId));
  if (isFreed !== true) return item;
  const { attention: _attention, ...rest } = item;
  return rest;
}

/** The server rejects a foreign token only after its deadline, so a damaged or exchanged token is rejected here. */
function tokenOf(cursor: string, query: ListWorkloads): string {
  const { token, of } = decodeCursor(pageCursor, cursor);
  if (of !== bindingOf(token, query)) throw badCursor();
  return token;
}

function nextCursor(token: string, query: ListWorkloads): string {
  return encodeCursor({ token, of: bindingOf(token, query) });
}

/** Binds a token to its list. */
function bindingOf(token: string, query: ListWorkloads): string {
  return createHash('sha256')
    .update(`${token} ${visibilityQuery(query)}`)
    .digest('hex')
    .slice(0, 16);
}

/** Safe without escaping: the schemas of these values allow no quotes. */
function visibilityQuery({ stage, deploymentId, projectId }: ListWorkloads): string {
  const terms = [`WorkflowType = '${WORKLOAD_WORKFLOW}'`, `ExecutionStatus != 'ContinuedAsNew'`];
  if (stage !== undefined) terms.push(stageTerm(stage));
  if (deploymentId !== undefined) terms.push(`KilnDeployment = '${deploymentId}'`);
  if (projectId !== undefined) terms.push(`KilnProject = '${projectId}'`);
  return terms.join(' AND ');
}

/**
 * A workflow that was ended from outside keeps its last stage as its attribute. Where that stage is final, the workload
 * had ended by itself before.
 */
function stageTerm(stage: Stage): string {
  const ended = `ExecutionStatus IN ('Terminated', 'TimedOut')`;
  if (stage === 'failed')
    return `(KilnStage = 'failed' OR (${ended} AND (KilnStage IS NULL OR KilnStage != 'stopped')))`;
  if (isFinal(stage)) return `KilnStage = '${stage}'`;
  return `KilnStage = '${stage}' AND ExecutionStatus NOT IN ('Terminated', 'TimedOut')`;
}

function summary(execution: Listed): WorkloadSummary | undefined {
  const id = workloadIdOf(execution.execution?.workflowId ?? '');
  if (id === undefined) return undefined;
  const attributes = execution.searchAttributes?.indexedFields;
  const { fields } = execution.memo ?? {};
  const startedAt = isoTime(execution.startTime) ?? new Date(0).toISOString();
  const requestedAt = isoTimeSchema.safeParse(text(fields, 'requestedAt'));
  const optional = {
    servicePath: text(fields, 'servicePath'),
    deploymentId: text(attributes, 'KilnDeployment'),
    projectId: text(attributes, 'KilnProject'),
    hostId: text(attributes, 'KilnHost'),
    outcome: text(attributes, 'KilnOutcome'),
    attention: text(attributes, 'KilnAttention'),
    closedAt: isoTime(execution.closeTime),
  };
  return {
    id,
    stage: recordedStage(STATUS[execution.status ?? 0] ?? '', text(attributes, 'KilnStage')),
    ...Object.fromEntries(Object.entries(optional).filter(([, value]) => value !== undefined)),
    createdAt: requestedAt.success ? requestedAt.data : startedAt,
  };
}

/** @returns a string value that the default payload converter has written. */
function text(payloads: Payloads, name: string): string | undefined {
  const data = payloads?.[name]?.data;
  if (!data) return undefined;
  try {
    const value: unknown = JSON.parse(Buffer.from(data).toString('utf8'));
    return typeof value === 'string' ? value : undefined;
  } catch {
    return undefined;
  }
}

function isoTime(time: { seconds?: unknown; nanos?: number | null } | null | undefined): string | undefined {
  const seconds = Number(time?.seconds ?? Number.NaN);
  return Number.isFinite(seconds)
    ? new Date(seconds * 1000 + Math.floor((time?.nanos ?? 0) / 1e6)).toISOString()
    : undefined;
}

/** `temporal.api.enums.v1.WorkflowExecutionStatus`. */
const STATUS: Readonly<Record<number, string>> = {
  1: 'RUNNING',
  2: 'COMPLETED',
  3: 'FAILED',
  4: 'CANCELLED',
  5: 'TERMINATED',
  6: 'CONTINUED_AS_NEW',
  7: 'TIMED_OUT',
};
