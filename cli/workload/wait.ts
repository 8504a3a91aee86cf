import { setTimeout as delay } from 'node:timers/promises';
import type { WorkloadView } from '../../contracts/api/workload-view.ts';
import { isKilnError } from '../../domain/failures.ts';
import { isFinal } from '../../domain/workload/stages.ts';
import type { CliContext } from '../cli-context.ts';

export interface WaitOptions {
  readonly signal: AbortSignal;
  /** Called at every poll, also where nothing has changed. */
  readonly onView: (view: WorkloadView) => void;
}

/**
 * Polls a workload until it runs or has ended. A stack that does not answer for a while is asked again.
 * @returns the last view
 * @throws what the API throws; the signal's reason where it was aborted
 */
export async function waitUntilUp(
  context: CliContext,
  first: WorkloadView,
  { signal, onView }: WaitOptions,
): Promise<WorkloadView> {
  const { pollMs, giveUpAfterMs } = context.timings;
  const api = await context.connect();
  let view = first;
  let answeredAt = context.now();
  for (;;) {
    onView(view);
    if (isSettled(view)) return view;
    await delay(pollMs, undefined, { signal });
    try {
      view = await api.getWorkload({ params: { id: first.id } }, { signal });
      answeredAt = context.now();
    } catch (error) {
      const passing = isKilnError(error) && error.retryable && context.now() - answeredAt < giveUpAfterMs;
      if (signal.aborted || !passing) throw error;
    }
  }
}

function isSettled(view: WorkloadView): boolean {
  return isFinal(view.stage) || (view.stage === 'running' && view.leaving === undefined);
}
