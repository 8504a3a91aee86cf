import { Worker } from '@temporalio/worker';
import { inject } from 'vitest';
import { workloadWorkflowId } from '../../../domain/names.ts';
import { createHistoryArchive } from '../../../store/archive/history-archive.ts';
import type { ObjectStore } from '../../../store/object-store.ts';
import { readWorkflowBundle } from '../servers/workflow-bundle.ts';

/** Replays all archived executions of the workloads with today's code. @returns how many @throws if a replay fails */
export async function replayArchived(store: ObjectStore, workloadIds: readonly string[]): Promise<number> {
  const workflowBundle = await readWorkflowBundle(inject('workflowBundle'));
  const archive = createHistoryArchive(store);
  const replays = workloadIds.map(async (id) => {
    const workflowId = workloadWorkflowId(id);
    return ((await archive.read(workflowId)) ?? []).map(({ history }) => ({ workflowId, history }));
  });
  let replayed = 0;
  const results = Worker.runReplayHistories({ workflowBundle }, (await Promise.all(replays)).flat());
  for await (const { workflowId, error } of results) {
    if (error) throw new Error(`${workflowId} does not replay: ${error.message}`, { cause: error });
    replayed += 1;
  }
  return replayed;
}
