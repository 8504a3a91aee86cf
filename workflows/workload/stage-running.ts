import { CancellationScope, condition, patched, sleep, workflowInfo } from '@temporalio/workflow';
import { backoffMs } from '../../domain/policies.ts';
import type { Observation } from '../../domain/workload/supervision.ts';
import type { ServiceExit, ServiceManifest } from '../../domain/workload/workload.ts';
import { type CodedError, CodedFailure, judge } from '../activity-verdict.ts';
import type { PlacedWorkload, WorkloadContext } from './workload-context.ts';

export type RunningEnd = 'left' | 'continue-as-new';

/**
 * Watches the service until something ends it. A stop does not wait for the supervisor's heartbeat: the workflow calls
 * `stopService` at once, and the supervisor then returns by itself.
 */
export async function run(
  ctx: WorkloadContext,
  placed: PlacedWorkload,
  manifest: ServiceManifest,
): Promise<RunningEnd> {
  const watching = new CancellationScope();
  let ended: Observation | 'continue-as-new' | undefined;
  let failed: unknown;
  const supervision = watching
    .run(() => supervise(ctx, placed, manifest))
    .then(
      (observation) => {
        ended = observation;
      },
      (error: unknown) => {
        failed = error;
      },
    );
  await condition(() => ended !== undefined || failed !== undefined || ctx.progress.end !== undefined);
  if (ctx.progress.end !== undefined) {
    await stopService(ctx, placed);
    await condition(() => ended !== undefined || failed !== undefined, ctx.policies.supervise.settleMs);
    watching.cancel();
    await supervision;
    return 'left';
  }
  if (failed !== undefined) throw failed;
  if (ended === 'continue-as-new') return 'continue-as-new';
  throw new CodedFailure(observedFailure(ctx, ended));
}

/** Re-schedules the supervisor with backoff for as long as the host may come back. */
async function supervise(
  ctx: WorkloadContext,
  placed: PlacedWorkload,
  manifest: ServiceManifest,
): Promise<Observation | 'continue-as-new'> {
  const { supervise: policy } = ctx.policies;
  const vmId = placed.vmIds[0] ?? '';
  for (let attempt = 1; ; attempt++) {
    try {
      return await placed.host.superviseVm({ ...ctx.ref(placed), vmId, manifest, port: ctx.input.port });
    } catch (error) {
      const verdict = judge(error);
      if (verdict.kind === 'cancelled') throw error;
      if (verdict.kind === 'failure' && !isTransient(verdict.code)) throw error;
      ctx.progress.note(`${placed.hostId}: ${verdict.message}`);
      await sleep(backoffMs(attempt, policy.backoffMs, policy.maxBackoffMs), { summary: 'before watching again' });
      if (verdict.kind === 'suspicion') await ctx.calls.untilHostAnswers(placed.hostId);
      // Only at this point, so that a lost host is noticed however often the workload continues as new.
      if (workflowInfo().continueAsNewSuggested || attempt >= policy.continueAfter) return 'continue-as-new';
    }
  }
}

const TRANSIENT = ['AGENT_LOST', 'AGENT_TIMEOUT', 'STORE_UNAVAILABLE', 'INTERNAL'];

/** Failures of the watcher: they say nothing about the VM that it watches. */
function isTransient(code: string): boolean {
  // Workloads that ran before this rule failed with DISK_FULL; their histories are replayed so.
  return TRANSIENT.includes(code) || (code === 'DISK_FULL' && patched('watch-through-a-full-disk'));
}

async function stopService(ctx: WorkloadContext, placed: PlacedWorkload): Promise<void> {
  try {
    const { exit } = await CancellationScope.nonCancellable(() =>
      placed.host.stopService({
        ...ctx.ref(placed),
        vmId: placed.vmIds[0] ?? '',
        graceMs: ctx.policies.leave.graceMs,
      }),
    );
    ctx.progress.update({ exit });
  } catch (error) {
    const verdict = judge(error);
    ctx.progress.note(
      `service could not be stopped gently: ${verdict.kind === 'cancelled' ? 'cancelled' : verdict.message}`,
    );
    const exit: ServiceExit = { code: null, signal: null, reason: 'unknown' };
    ctx.progress.update({ exit });
  }
}

function observedFailure(ctx: WorkloadContext, seen: Observation | undefined): CodedError {
  if (seen?.kind === 'service-exited') {
    ctx.progress.update({ exit: seen.exit });
    const how = seen.exit.signal ?? `code ${seen.exit.code ?? 'unknown'}`;
    const message = `The service exited with ${how} while running.`;
    return { code: 'SERVICE_EXITED', message, ...(seen.tail === '' ? {} : { stack: seen.tail }) };
  }
  if (seen?.kind === 'unhealthy') return { code: 'HEALTH_FAILED', message: seen.message };
  if (seen?.kind === 'vm-gone') {
    ctx.progress.update({ exit: { code: null, signal: null, reason: 'vm-lost' } });
    return { code: seen.code, message: seen.message };
  }
  return { code: 'VMM_EXITED', message: 'The VM was taken down, and not by this workload.' };
}
