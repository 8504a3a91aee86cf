/** List: from Temporal's visibility, page by page. */
import type { WorkloadPage, WorkloadSummary } from '../../../contracts/api/workload-view.ts';
import { isoTimeSchema } from '../../../contracts/identifiers.ts';
import { defined } from '../../../domain/defined.ts';
import { workloadIdOf } from '../../../domain/names.ts';
import { isFinal, type Stage } from '../../../domain/workload/stages.ts';
import { WORKLOAD_WORKFLOW } from '../../../workflows/messages.ts';
import type { ClientContext, ListWorkloads } from '../client-context.ts';
import { type Listed, listedText, listedTime, listPage } from '../visibility-page.ts';
import { recordedStage } from './recorded-state.ts';

/** @throws SPEC_INVALID (cursor), STORE_UNAVAILABLE, TEMPORAL_UNAVAILABLE */
export async function listWorkloads(context: ClientContext, query: ListWorkloads): Promise<WorkloadPage> {
  const page = await listPage(context, visibilityQuery(query), query);
  const items = page.items.flatMap((execution) => summary(execution) ?? []);
  return {
    items: await Promise.all(items.map((item) => withoutOldAttention(context, item))),
    ...defined({ next: page.next }),
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
  const startedAt = listedTime(execution.startTime) ?? new Date(0).toISOString();
  const requestedAt = isoTimeSchema.safeParse(listedText(fields, 'requestedAt'));
  const optional = {
    servicePath: listedText(fields, 'servicePath'),
    deploymentId: listedText(attributes, 'KilnDeployment'),
    projectId: listedText(attributes, 'KilnProject'),
    hostId: listedText(attributes, 'KilnHost'),
    outcome: listedText(attributes, 'KilnOutcome'),
    attention: listedText(attributes, 'KilnAttention'),
    closedAt: listedTime(execution.closeTime),
  };
  return {
    id,
    stage: recordedStage(STATUS[execution.status ?? 0] ?? '', listedText(attributes, 'KilnStage')),
    ...Object.fromEntries(Object.entries(optional).filter(([, value]) => value !== undefined)),
    createdAt: requestedAt.success ? requestedAt.data : startedAt,
  };
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
