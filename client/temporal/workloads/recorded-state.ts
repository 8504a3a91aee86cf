/** State of a workload whose workflow does not answer: from Temporal's record or from the request. Pure. */
import type { WorkflowExecutionDescription } from '@temporalio/client';
import { defineSearchAttributeKey } from '@temporalio/common';
import { z } from 'zod';
import type { SpecDocument } from '../../../contracts/store/workload-documents.ts';
import { defined } from '../../../domain/defined.ts';
import { isFailureCode } from '../../../domain/failures.ts';
import { type SearchAttribute, workloadIdOf } from '../../../domain/names.ts';
import type { StageLedger } from '../../../domain/workload/reducer.ts';
import { INITIAL_STAGE, isFinal, isStage, type Stage } from '../../../domain/workload/stages.ts';
import type { StageMove, Unreleased, WorkloadState } from '../../../domain/workload/workload.ts';

const memoSchema = z.object({
  servicePath: z.string().exactOptional(),
  image: z.string().exactOptional(),
  requestedAt: z.iso.datetime().exactOptional(),
});

/** @returns the memo that `create` attached to the workflow. */
export function memoOf({ memo }: Pick<WorkflowExecutionDescription, 'memo'>): z.infer<typeof memoSchema> {
  const parsed = memoSchema.safeParse(memo ?? {});
  return parsed.success ? parsed.data : {};
}

/** @returns the value of a Keyword attribute, where it is set. */
export function attributeOf(
  info: Pick<WorkflowExecutionDescription, 'typedSearchAttributes'>,
  name: SearchAttribute,
): string | undefined {
  return info.typedSearchAttributes.get(defineSearchAttributeKey(name, 'KEYWORD'));
}

/** @returns the stage by Temporal's record: a workflow that was ended from outside too early counts as failed. */
export function recordedStage(status: string, attribute: string | undefined): Stage {
  if (isStage(attribute) && isFinal(attribute)) return attribute;
  if (status === 'TERMINATED' || status === 'TIMED_OUT' || status === 'FAILED') return 'failed';
  if (status === 'COMPLETED' || status === 'CANCELLED') return 'stopped';
  return isStage(attribute) ? attribute : INITIAL_STAGE;
}

/** @returns stage, names and times, as far as Temporal knows them without a worker. */
export function stateFromDescription(info: WorkflowExecutionDescription): WorkloadState {
  const memo = memoOf(info);
  const deploymentId = attributeOf(info, 'KilnDeployment');
  const projectId = attributeOf(info, 'KilnProject');
  const stage = attributeOf(info, 'KilnStage');
  const startedAt = info.startTime.toISOString();
  return {
    workloadId: workloadIdOf(info.workflowId) ?? info.workflowId,
    ...defined({ deploymentId, projectId }),
    servicePath: memo.servicePath ?? '.',
    stage: isStage(stage) ? stage : INITIAL_STAGE,
    notes: [],
    unreleased: [],
    moves: [],
    createdAt: memo.requestedAt ?? startedAt,
    updatedAt: (info.closeTime ?? info.startTime).toISOString(),
  };
}

/**
 * @param known a state in a final stage, without its moves
 * @param ledger of its recorded events
 * @param outcome its attribute `KilnOutcome`, which is set with the final stage
 * @returns the state with its moves and, where it has failed, with code and stage; only its workflow knows the message
 */
export function endedState(known: WorkloadState, ledger: StageLedger, outcome: string | undefined): WorkloadState {
  const last = ledger.moves.at(-1);
  if (last === undefined || last.to !== known.stage) return known;
  const ended = { ...known, moves: ledger.moves, updatedAt: last.at };
  if (last.to !== 'failed' || !isFailureCode(outcome)) return ended;
  const message = `It failed in the stage ${last.from}. Its workflow, which knows more, does not answer now.`;
  return { ...ended, failure: { code: outcome, message, stage: last.from } };
}

/** @returns the state of a workload that was accepted but whose workflow was not started. */
export function unstartedState({ workloadId, request, requestedAt }: SpecDocument): WorkloadState {
  return {
    workloadId,
    ...defined({ deploymentId: request.deploymentId, projectId: request.projectId }),
    servicePath: request.servicePath,
    ...defined({ priority: request.priority }),
    stage: INITIAL_STAGE,
    waiting: {
      reason: 'It was accepted, but Temporal could not be reached to start it: repeat the same create.',
      since: requestedAt,
    },
    notes: [],
    unreleased: [],
    moves: [],
    createdAt: requestedAt,
    updatedAt: requestedAt,
  };
}

/**
 * @param hostId host of its last placement, where that is known besides `last`
 * @returns a last known state as `failed TERMINATED`: its workflow was ended from outside, without its clean-up
 */
export function terminatedState(
  last: WorkloadState,
  closedAt: string,
  status: string,
  hostId = last.vm?.hostId,
): WorkloadState {
  if (isFinal(last.stage)) return last;
  const { leaving: _leaving, waiting: _waiting, ...rest } = last;
  const move: StageMove = {
    seq: last.moves.length + 1,
    at: closedAt,
    from: last.stage,
    to: 'failed',
    cause: 'TERMINATED',
  };
  const before = last.failure === undefined ? [] : [`before that: ${last.failure.code} ${last.failure.message}`];
  return {
    ...rest,
    stage: 'failed',
    failure: { code: 'TERMINATED', message: ENDED[status] ?? ENDED.TERMINATED, stage: last.stage },
    notes: [...last.notes, ...before],
    unreleased: [...last.unreleased, ...(hostId === undefined ? [] : [leftBehind(hostId)])],
    moves: [...last.moves, move],
    updatedAt: closedAt,
  };
}

/** Only its host knows what it held at its end; the host's sweep frees that and reports it. */
function leftBehind(hostId: string): Unreleased {
  return { name: 'whatever it held', hostId, message: 'Its workflow ended without clean-up.' };
}

const ENDED: Readonly<Record<string, string>> & { readonly TERMINATED: string } = {
  TERMINATED: 'Its workflow was terminated in Temporal, without clean-up; the sweep of its host frees what it held.',
  TIMED_OUT: 'Its workflow ran into a time limit of Temporal; the sweep of its host frees what it held.',
  FORGOTTEN:
    'Temporal has forgotten its workflow, and no result was kept; what it held is freed by the sweep of its host.',
};
