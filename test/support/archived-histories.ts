import { Worker } from '@temporalio/worker';
import { workloadWorkflowId } from '../../domain/names.ts';
import { createHistoryArchive } from '../../store/archive/history-archive.ts';
import type { ObjectStore } from '../../store/object-store.ts';
import { bundleWorkflows } from '../../temporal/workflow-bundle.ts';

/** Replays every archived execution of workloads with today's code. @returns how many @throws where one does not replay */
export async function replayArchived(store: ObjectStore, workloadIds: readonly string[]): Promise<number> {
  const workflowBundle = await bundleWorkflows();
  const archive = createHistoryArchive(store);
  let replayed = 0;
  for (const id of workloadIds) {
    const workflowId = workloadWorkflowId(id);
    for (const { history } of (await archive.read(workflowId)) ?? []) {
      await Worker.runReplayHistory({ workflowBundle }, history, workflowId);
      replayed += 1;
    }
  }
  return replayed;
}
