import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import { CancellationScope, continueAsNew, setHandler } from '@temporalio/workflow';
import { KilnError } from '../../domain/failures.ts';
import type { ServiceManifest, WorkloadState } from '../../domain/workload/workload.ts';
import { assertWorkloadInput, type WorkloadInput } from '../../domain/workload/workload-input.ts';
import { guardInput } from '../input-guard.ts';
import { stopSignal, workloadQuery } from '../messages.ts';
import { findPlace } from '../placed/find-place.ts';
import { Leaving } from '../placed/interruptible-work.ts';
import { adjust, holdOn } from './adjust-place.ts';
import { build, validate } from './stage-build.ts';
import { deploy } from './stage-deploy.ts';
import { stageFailure } from './stage-failure.ts';
import { run } from './stage-running.ts';
import { type PlacedWorkload, WorkloadContext } from './workload-context.ts';

/**
 * One workload from its request to its end. Closes Completed when stopped, Failed with the code when failed, Cancelled
 * (after clean-up) when cancelled in Temporal. The list of moves is in the result or in the failure's details.
 */
export async function workloadWorkflow(input: WorkloadInput): Promise<WorkloadState> {
  guardInput(() => assertWorkloadInput(input));
  const ctx = new WorkloadContext(input);
  setHandler(workloadQuery, () => ctx.progress.state);
  setHandler(stopSignal, (request) => {
    const by = request?.by === undefined ? '' : ` by ${request.by}`;
    ctx.leave({
      kind: 'stop',
      text: `stop requested${by}${request?.reason === undefined ? '' : `: ${request.reason}`}`
        .slice(0, 300)
        .toWellFormed(),
    });
  });
  // A cancel of the workflow is one more cause to leave: it must not interrupt the clean-up.
  CancellationScope.current().cancelRequested.catch(() => ctx.leave({ kind: 'cancel', text: 'cancelled in Temporal' }));
  return CancellationScope.nonCancellable(() => live(ctx));
}

async function live(ctx: WorkloadContext): Promise<WorkloadState> {
  try {
    const carryOn = await pipeline(ctx);
    if (carryOn) await continueAsNew<typeof workloadWorkflow>(carryOn);
  } catch (error) {
    if (isContinueAsNew(error)) throw error;
    if (!(error instanceof Leaving)) fail(ctx, error);
  }
  await leave(ctx);
  return close(ctx);
}

/** The stages in order. @returns the input to continue as new with, where that is needed. */
async function pipeline(ctx: WorkloadContext): Promise<WorkloadInput | undefined> {
  const { progress, input } = ctx;
  let manifest: ServiceManifest;
  let placed: PlacedWorkload;
  if (input.carried) {
    ({ placed } = ctx.placements.goOn(
      progress.state.vm?.hostId ?? '',
      input.carried.reservationId,
      progress.state.vm ? [progress.state.vm.vmId] : [],
    ));
    manifest = input.carried.manifest;
  } else {
    const prepared = await prepare(ctx);
    ({ placed, manifest } = prepared);
    ctx.advance('deploy', prepared.build.cached ? 'build output found in the cache' : 'built');
    await ctx.interruptible(() => deploy(ctx, placed, manifest, prepared.build));
    ctx.advance('running', 'healthy');
  }
  if ((await run(ctx, placed, manifest)) === 'left') return undefined;
  return {
    ...input,
    carried: {
      state: progress.state,
      controlLogLines: ctx.logLines.total,
      pendingLogLines: ctx.logLines.pending,
      reservationId: placed.reservationId,
      manifest,
    },
  };
}

/** pending, validate and build: a lost host costs only time, because the workload is placed again. */
async function prepare(ctx: WorkloadContext) {
  const { progress, policies } = ctx;
  let manifest: ServiceManifest | undefined;
  for (let placements = 1; ; placements++) {
    try {
      const placed = await ctx.interruptible(() => findPlace(ctx));
      const where = { KilnHost: placed.hostId };
      if (progress.stage === 'pending') ctx.advance('validate', `placed on ${placed.hostId}`, where);
      else ctx.moved(placed);
      if (manifest === undefined) {
        const valid = await ctx.interruptible(() => validate(ctx, placed));
        manifest = valid.manifest;
        const { needs } = valid;
        if (needs !== undefined && !(await ctx.interruptible(() => adjust(ctx, placed, needs)))) {
          await release(ctx, 'its manifest asks for more than was held');
          continue;
        }
      }
      if (progress.stage === 'validate') ctx.advance('build', 'valid');
      const known = manifest;
      const reservedAt = Date.now();
      const built = await ctx.interruptible(() => build(ctx, placed, known));
      if (await ctx.interruptible(() => holdOn(ctx, placed, reservedAt)))
        return { placed, manifest: known, build: built };
      await release(ctx, 'its place was taken while it was built');
    } catch (error) {
      const lost = stageFailure(error, progress.stage).code === 'HOST_LOST' && progress.end === undefined;
      if (!lost || placements >= policies.host.placements) throw error;
      await release(ctx, 'host lost');
    }
  }
}

function fail(ctx: WorkloadContext, error: unknown): void {
  const { progress } = ctx;
  const timeoutCode =
    progress.stage === 'build' ? 'BUILD_TIMEOUT' : progress.stage === 'deploy' ? 'BOOT_TIMEOUT' : 'TIMED_OUT';
  const failure = stageFailure(error, progress.stage, timeoutCode);
  if (failure.code === 'CANCELLED' && progress.end !== undefined) return;
  ctx.leave({ kind: 'failure', text: failure.code, failure });
}

/** Releases everything. What could not be released is shown; the host's sweep frees it. */
async function release(ctx: WorkloadContext, cause: string): Promise<void> {
  const failed = await ctx.placements.undo.releaseAll(cause);
  if (failed.length > 0) ctx.progress.update({ unreleased: [...ctx.progress.state.unreleased, ...failed] });
}

async function leave(ctx: WorkloadContext): Promise<void> {
  const { progress } = ctx;
  const end = progress.end;
  if (end === undefined) throw new KilnError('INTERNAL', 'A workload left without a cause');
  await release(ctx, end.text);
  const outcome = end.kind === 'failure' ? 'failed' : 'stopped';
  if (end.kind === 'failure') ctx.log('error', `${end.failure.code}: ${end.failure.message}`);
  else ctx.log('info', end.text);
  progress.enter(outcome, end.text, {
    KilnOutcome: end.kind === 'failure' ? end.failure.code : end.kind === 'cancel' ? 'CANCELLED' : 'STOPPED',
    ...(progress.state.unreleased.length > 0 ? { KilnAttention: 'UNRELEASED' } : {}),
  });
  await ctx.control.closeBooks({ state: progress.state, logLines: ctx.logLines.pending });
}

function close(ctx: WorkloadContext): WorkloadState {
  const { state, end } = ctx.progress;
  if (end?.kind === 'cancel') throw new CancelledFailure(end.text, [state]);
  if (end?.kind === 'failure') throw ApplicationFailure.nonRetryable(end.failure.message, end.failure.code, state);
  return state;
}

function isContinueAsNew(error: unknown): boolean {
  return error instanceof Error && error.name === 'ContinueAsNew';
}
