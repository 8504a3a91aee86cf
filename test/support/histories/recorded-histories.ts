/** Every history that a test records is checked by the projector, replayed, and saved for `npm run keep-histories`. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Client } from '@temporalio/client';
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js';
import { Worker } from '@temporalio/worker';
import { fetchChain, fetchExecutions } from '../../../client/temporal/archive/fetch-executions.ts';
import { type FetchedHistory, recordedEvents } from '../../../client/temporal/archive/recorded-events.ts';
import { project as projectLifecycle } from '../../../domain/lifecycle/projector.ts';
import { sessionNameOf, workloadIdOf } from '../../../domain/names.ts';
import { SESSION_LIFECYCLE } from '../../../domain/session/tiers.ts';
import { project } from '../../../domain/workload/projector.ts';
import { stagesOf } from '../../../domain/workload/reducer.ts';
import type { Stage } from '../../../domain/workload/stages.ts';
import { SESSION_WORKFLOW } from '../../../workflows/session/session-messages.ts';
import { readWorkflowBundle } from '../servers/workflow-bundle.ts';

const RECORDED = fileURLToPath(new URL('../../../node_modules/.kiln-histories', import.meta.url));

export interface JudgedHistory {
  readonly workloadId: string;
  readonly stages: readonly Stage[];
  readonly executions: number;
}

/**
 * Fetches the executions of every workload of a namespace, runs the projector over them and replays each.
 * @param bundlePath of today's workflows
 * @throws INVALID_TRANSITION or a determinism violation, naming the workload
 */
export async function judgeHistories(client: Client, bundlePath: string): Promise<JudgedHistory[]> {
  const workflowBundle = await readWorkflowBundle(bundlePath);
  await mkdir(RECORDED, { recursive: true });
  const judged: JudgedHistory[] = [];
  const replays: { workflowId: string; history: FetchedHistory }[] = [];
  const workflowIds = new Set<string>();
  for await (const { workflowId } of client.workflow.list()) workflowIds.add(workflowId);
  for (const workflowId of workflowIds) {
    const workloadId = workloadIdOf(workflowId);
    if (sessionNameOf(workflowId) !== undefined) {
      await judgeSession(client, workflowId, replays);
      continue;
    }
    if (workloadId === undefined) {
      await keepMaintenance(client, workflowId, replays);
      continue;
    }
    const latest = await client.workflow.getHandle(workflowId).describe();
    const executions = await fetchExecutions({ client, timings: TIMINGS }, workloadId, latest.runId);
    const ledger = project(recordedEvents(executions));
    for (const [index, history] of executions.entries()) {
      replays.push({ workflowId, history });
      const name = `${workloadId}${index === 0 ? '' : `.${index}`}.json`;
      await writeFile(join(RECORDED, name), historyToJSON(history));
    }
    judged.push({ workloadId, stages: stagesOf(ledger), executions: executions.length });
  }
  for await (const { workflowId, error } of Worker.runReplayHistories({ workflowBundle }, replays)) {
    if (error) throw new Error(`${workflowId} does not replay: ${error.message}`, { cause: error });
  }
  return judged;
}

/** A session's tiers are judged by their own table. */
async function judgeSession(
  client: Client,
  workflowId: string,
  replays: { workflowId: string; history: FetchedHistory }[],
): Promise<void> {
  const latest = await client.workflow.getHandle(workflowId).describe();
  const executions = await fetchChain({ client, timings: TIMINGS }, workflowId, latest.runId);
  // The workflow of another test may hold the VM of a session, and have no tiers.
  if (latest.type === SESSION_WORKFLOW) projectLifecycle(SESSION_LIFECYCLE, recordedEvents(executions, 'KilnTier'));
  for (const [index, history] of executions.entries()) {
    replays.push({ workflowId, history });
    const name = `${workflowId.replaceAll('/', '-')}${index === 0 ? '' : `.${index}`}.json`;
    await writeFile(join(RECORDED, name), historyToJSON(history));
  }
}

/** A run of the maintenance has no stages, so it is only replayed. */
async function keepMaintenance(
  client: Client,
  workflowId: string,
  replays: { workflowId: string; history: FetchedHistory }[],
): Promise<void> {
  const history = await client.workflow.getHandle(workflowId).fetchHistory();
  replays.push({ workflowId, history });
  await writeFile(join(RECORDED, `${workflowId.replace('/', '-')}.json`), historyToJSON(history));
}

const TIMINGS = { callMs: 10_000, queryMs: 5_000, pollerFreshMs: 60_000, backlogMs: 3_000 };
