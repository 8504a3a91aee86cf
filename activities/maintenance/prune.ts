import { defined } from '../../domain/defined.ts';
import type { MaintenancePorts, PruneOptions, Pruning } from '../../ports/maintenance.ts';
import { framed } from '../activity-frame.ts';
import type { MaintenanceActivities, PrunedStep, PruneStep } from './maintenance-types.ts';

/** Removes old data, step by step. Ages are measured by Temporal's clock: this machine's clock may be wrong. */
export function createPrune({
  pruning,
}: Pick<MaintenancePorts, 'pruning'>): Pick<MaintenanceActivities, 'pruneLogs' | 'pruneSources' | 'repairSaves'> {
  return {
    pruneLogs: ({ logsMs, ...step }) => prune(pruning.logs, logsMs, step),
    pruneSources: ({ sourcesMs, ...step }) => prune(pruning.sources, sourcesMs, step),
    repairSaves: ({ saveGarbageMs, nowMs, step, everyMs }) =>
      framed((signal) =>
        pruning.saves({ keepMs: saveGarbageMs, everyMs, now: nowMs, step, onProgress: () => signal.throwIfAborted() }),
      ),
  };
}

function prune(
  remove: Pruning['logs' | 'sources'],
  keepMs: number,
  { nowMs, step, after }: PruneStep,
): Promise<PrunedStep> {
  return framed(async (signal) => {
    const options: PruneOptions = {
      keepMs,
      now: nowMs,
      step,
      ...defined({ after }),
      onProgress: () => signal.throwIfAborted(),
    };
    const { removed, next } = await remove(options);
    return { removed, ...defined({ next }) };
  });
}
