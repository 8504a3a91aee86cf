import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import { CancellationScope, continueAsNew, setHandler } from '@temporalio/workflow';
import { isKilnError, KilnError } from '../../domain/failures.ts';
import type { ServiceManifest, WorkloadState } from '../../domain/workload/workload.ts';
import { assertWorkloadInput, type WorkloadInput } from '../../domain/workload/workload-input.ts';
import { stopSignal, workloadQuery } from '../messages.ts';
import { stageFailure } from '../workflow-failures.ts';
import { build, validate } from './stage-build.ts';
import { deploy } from './stage-deploy.ts';
import { adjust, holdOn, place } from './stage-pending.ts';
import { run } from './stage-running.ts';
import { Leaving, type Placed, WorkloadContext } from './workload-context.ts';

/**
 * One workload from its request to its end. Closes Completed when stopped, Failed with the code when failed, Cancelled
 * (after clean-up) when cancelled in Temporal. The list of moves is in the result or in the failure's details.
 */
export async function workloadWorkflow(input: WorkloadInput): Promise<WorkloadState> {
  guard(input);
  const ctx = new WorkloadContext(input);
  setHandler(workloadQuery, () => ctx.record.state);
  setHandler(stopSignal, (request) => {
    const by = request?.by === undefined ? '' : ` by ${request.by}`;
    ctx.leave({
      kind: 'stop',
      text: `stop requested${by}${request?.reason === undefined ? '' : `: ${request.reason}`}`
        .slice(0, 300)
        .toWellFormed(),
    });
  });
  // A cancel of the workflow is one more cause among others: it must not tear through the clean-up.
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

/** The stages in order. @returns the input to continue as new with, if that is due. */
async function pipeline(ctx: WorkloadContext): Promise<WorkloadInput | undefined> {
  const { record, input } = ctx;
  let manifest: ServiceManifest;
  let placed: Placed;
  if (input.carried) {
    ({ placed } = ctx.knownPlacement(
      record.state.vm?.hostId ?? '',
      input.carried.reservationId,
      record.state.vm ? [record.state.vm.vmId] : [],
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
      state: record.state,
      controlLogLines: ctx.controlLogLines,
      pendingLogLines: ctx.pendingLogLines,
      reservationId: placed.reservationId,
      manifest,
    },
  };
}

/** pending, validate and build: a lost host costs nothing but time, the workload is placed again. */
async function prepare(ctx: WorkloadContext) {
  const { record, policies } = ctx;
  let manifest: ServiceManifest | undefined;
  for (let placements = 1; ; placements++) {
    try {
      const placed = await ctx.interruptible(() => place(ctx));
      const where = { KilnHost: placed.hostId };
      if (record.stage === 'pending') ctx.advance('validate', `placed on ${placed.hostId}`, where);
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
      if (record.stage === 'validate') ctx.advance('build', 'valid');
      const known = manifest;
      const reservedAt = Date.now();
      const built = await ctx.interruptible(() => build(ctx, placed, known));
      if (await ctx.interruptible(() => holdOn(ctx, placed, reservedAt)))
        return { placed, manifest: known, build: built };
      await release(ctx, 'its place was taken while it was built');
    } catch (error) {
      const lost = stageFailure(error, record.stage).code === 'HOST_LOST' && record.end === undefined;
      if (!lost || placements >= policies.host.placements) throw error;
      await release(ctx, 'host lost');
    }
  }
}

function fail(ctx: WorkloadContext, error: unknown): void {
  const { record } = ctx;
  const timeoutCode =
    record.stage === 'build' ? 'BUILD_TIMEOUT' : record.stage === 'deploy' ? 'BOOT_TIMEOUT' : 'TIMED_OUT';
  const failure = stageFailure(error, record.stage, timeoutCode);
  if (failure.code === 'CANCELLED' && record.end !== undefined) return;
  ctx.leave({ kind: 'failure', text: failure.code, failure });
}

/** Releases everything; what could not be released is shown and left to the host's sweep. */
async function release(ctx: WorkloadContext, cause: string): Promise<void> {
  const failed = await ctx.undo.releaseAll(cause);
  if (failed.length > 0) ctx.record.update({ unreleased: [...ctx.record.state.unreleased, ...failed] });
}

async function leave(ctx: WorkloadContext): Promise<void> {
  const { record } = ctx;
  const end = record.end;
  if (end === undefined) throw new KilnError('INTERNAL', 'A workload left without a cause');
  await release(ctx, end.text);
  const outcome = end.kind === 'failure' ? 'failed' : 'stopped';
  if (end.kind === 'failure') ctx.log('error', `${end.failure.code}: ${end.failure.message}`);
  else ctx.log('info', end.text);
  record.enter(outcome, end.text, {
    KilnOutcome: end.kind === 'failure' ? end.failure.code : end.kind === 'cancel' ? 'CANCELLED' : 'STOPPED',
    ...(record.state.unreleased.length > 0 ? { KilnAttention: 'UNRELEASED' } : {}),
  });
  await ctx.control.closeBooks({ state: record.state, logLines: ctx.pendingLogLines });
}

function close(ctx: WorkloadContext): WorkloadState {
  const { state, end } = ctx.record;
  if (end?.kind === 'cancel') throw new CancelledFailure(end.text, [state]);
  if (end?.kind === 'failure') throw ApplicationFailure.nonRetryable(end.failure.message, end.failure.code, state);
  return state;
}

/** A plain error would only fail the workflow task, for ever. */
function guard(input: unknown): void {
  try {
    assertWorkloadInput(input);
  } catch (error) {
    if (isKilnError(error)) throw ApplicationFailure.nonRetryable(error.message, error.code);
    throw error;
  }
}

function isContinueAsNew(error: unknown): boolean {
  return error instanceof Error && error.name === 'ContinueAsNew';
}
