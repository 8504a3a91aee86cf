import { CancellationScope, condition, patched, sleep } from '@temporalio/workflow';
import { backoffMs } from '../../../domain/policies.ts';
import type { Cause, CauseCode } from '../../../domain/session/session-events.ts';
import { codedError } from '../../activity-verdict.ts';
import { bootFreshVm } from '../../placed/boot-loop.ts';
import { findPlace } from '../../placed/find-place.ts';
import { resumeOfSaved } from '../session-activities.ts';
import type { SessionContext } from '../session-context.ts';
import { verdictOn } from '../session-verdict.ts';
import type { HotSession } from './hot-session.ts';
import { disownPlaces, hasAllSaved, mustClaim, noteLostPlace, waitOutLease } from './lost-places.ts';
import { goneBecause, saysVmGone } from './vm-gone.ts';

/**
 * Makes the session hot: resumes its VM where it has one, else finds a place and boots a new VM.
 * @throws CodedFailure where no VM could be had; the session is cold then
 */
export async function wake(ctx: SessionContext, cause: Cause = { code: 'RUN_WAITS' }): Promise<HotSession> {
  const { state } = ctx;
  if (ctx.hot !== undefined && state.tier === 'hot') return ctx.hot;
  if (ctx.hot !== undefined) {
    const resumed = await resume(ctx, ctx.hot, cause);
    if (resumed !== undefined) return resumed;
  }
  state.enter('restoring', cause);
  for (let tries = 1; ; tries++) {
    try {
      return await bootSomewhere(ctx);
    } catch (error) {
      const verdict = verdictOn(error);
      const detail = verdict.kind === 'cancelled' ? 'cancelled' : verdict.message;
      const isHostLost = verdict.kind === 'failure' && verdict.code === 'HOST_LOST';
      const why: Cause = { code: isHostLost ? 'HOST_LOST' : 'BOOT_FAILED', detail };
      await release(ctx, why);
      state.forgetVm();
      // Nothing of the session was in that VM yet.
      if (isHostLost && tries < ctx.policies.host.placements && patched('boot-elsewhere')) continue;
      state.enter('cold', { ...why, code: 'BOOT_FAILED' });
      throw error;
    }
  }
}

async function bootSomewhere(ctx: SessionContext): Promise<HotSession> {
  const { state } = ctx;
  const placed = await findPlace(ctx);
  ctx.calls.isBack(placed.hostId);
  const vmId = await bootFreshVm(ctx, placed, 'session');
  const hot = { placed, vmId };
  if (ctx.saver.hasSave || mustClaim(ctx)) await restore(ctx, hot);
  await waitOutLease(ctx, placed.hostId);
  ctx.hot = hot;
  const { hostId, epoch, reservationId } = placed;
  state.placed({ hostId, epoch, reservationId, boot: ctx.placements.boot, vmId }, { code: 'BOOTED' });
  state.enter('hot', { code: 'BOOTED' });
  return hot;
}

/** Makes the head this placement's, and fills the workspace of its VM, before any process of the session runs in it. */
async function restore({ calls, owner, name, saver }: SessionContext, { placed, vmId }: HotSession): Promise<void> {
  const call = { ...owner.call(placed.epoch), vmId, name };
  const restored = await calls.onHost(placed, () => placed.host.restoreWorkspace(call));
  if (restored !== null) saver.noteRestored(restored.mark);
}

/**
 * Lets a VM that waits go on.
 * @returns undefined where it is not there any more: the session is cold then
 */
export async function resume(ctx: SessionContext, hot: HotSession, cause: Cause): Promise<HotSession | undefined> {
  const deadlineMs = ctx.policies.control.startToCloseMs;
  const mayMove = hasAllSaved(ctx);
  const { hostId, host } = hot.placed;
  const resumeVm = mayMove ? resumeOfSaved(hostId, ctx.policies) : host.resumeVm;
  let how: 'move' | 'wait' = mayMove ? 'move' : 'wait';
  try {
    const call = { ...ctx.owner.call(hot.placed.epoch), vmId: hot.vmId, deadlineMs };
    await whileItMayGoOn(ctx, async (waitMs) => {
      const present = how;
      // Once the host has taken a call, its guest may run.
      how = 'wait';
      await ctx.calls.onHost(hot.placed, () => resumeVm({ ...call, waitMs }), present);
    });
    ctx.state.enter('hot', cause);
    return hot;
  } catch (error) {
    const verdict = verdictOn(error);
    // A VM that finds no room, or whose host is in trouble, waits on with its files.
    if (verdict.kind !== 'failure' || !saysVmGone(verdict.code)) throw error;
    await vmDied(ctx, goneBecause(verdict.code, verdict.message));
    return undefined;
  }
}

/**
 * A paused VM needs its full size again, and a host that answers in time. Until then the run waits, with its files.
 * @throws the last error after the deadline of placements
 */
async function whileItMayGoOn(ctx: SessionContext, resume: (waitMs: number) => Promise<void>): Promise<void> {
  const { placement, control } = ctx.policies;
  const { deadlineMs, backoffMs: firstMs, maxBackoffMs } = placement;
  const deadline = Date.now() + deadlineMs;
  for (let attempt = 1; ; attempt++) {
    try {
      // The first one answers at once, so that the wait is shown; from then on it waits in the line of its host.
      await resume(attempt === 1 ? 0 : Math.max(1, Math.min(control.startToCloseMs, deadline - Date.now())));
      if (attempt > 1) ctx.progress.wait(undefined);
      return;
    } catch (error) {
      const reason = whyItWaits(error);
      if (reason === undefined || Date.now() >= deadline) {
        ctx.progress.wait(undefined);
        throw error;
      }
      ctx.progress.wait(reason.text);
      const pauseMs = reason.inLine ? firstMs : backoffMs(attempt, firstMs, maxBackoffMs);
      await sleep(pauseMs, { summary: 'before the VM is resumed again' });
    }
  }
}

/** @returns undefined where another try is of no use */
function whyItWaits(error: unknown): { readonly text: string; readonly inLine: boolean } | undefined {
  const verdict = verdictOn(error);
  if (verdict.kind === 'timeout') {
    return { text: `its host did not resume its VM in time: ${verdict.message}`, inLine: false };
  }
  const isFull = verdict.kind === 'failure' && verdict.code === 'NO_CAPACITY';
  return isFull ? { text: verdict.message, inLine: true } : undefined;
}

/** Pauses the VM of a hot session that has nothing to do. */
export async function rest(ctx: SessionContext, hot: HotSession): Promise<void> {
  ctx.isPausing = true;
  try {
    const call = { ...ctx.owner.call(hot.placed.epoch), vmId: hot.vmId };
    await ctx.calls.onHost(hot.placed, () => hot.placed.host.pauseVm(call));
    ctx.state.enter('warm', { code: whyAtRest(ctx) });
  } catch (error) {
    const { code, message } = codedError(error);
    if (saysVmGone(code)) await vmDied(ctx, goneBecause(code, message));
    else await beforeNextTry(ctx, message);
  } finally {
    ctx.isPausing = false;
  }
}

/** The VM could not be paused now: it stays hot, with its files, and whatever comes meanwhile goes first. */
async function beforeNextTry(ctx: SessionContext, reason: string): Promise<void> {
  const { state, policies } = ctx;
  ctx.isPausing = false;
  ctx.progress.note(`the VM could not be paused: ${reason}`);
  const came = () => state.leaving !== undefined || state.runs.waiting.length > 0 || ctx.vmGone !== undefined;
  await condition(came, policies.placement.maxBackoffMs);
}

function whyAtRest({ state }: SessionContext): CauseCode {
  for (const { of, cause } of state.state.events.toReversed()) {
    if (of === 'run') return 'RUN_ENDED';
    if (of === 'tier' && cause.code === 'HOLD') return 'HOLD_ENDED';
    if (of === 'tier' && cause.code === 'SAVE_AGAIN') return 'SAVE_AGAIN';
  }
  return 'RUN_ENDED';
}

/** The VM is gone, and with it what the session had in memory and, of its workspace, what was not saved. */
export async function vmDied(ctx: SessionContext, cause: Cause): Promise<void> {
  if (cause.code !== 'HOST_LOST') await ctx.saver.lastUpload();
  ctx.state.loseWorkspace(cause);
  if (cause.code === 'HOST_LOST') noteLostPlace(ctx);
  await release(ctx, cause);
  if (ctx.state.tier === 'hot' || ctx.state.tier === 'warm') ctx.state.enter('cold', cause);
}

/** Releases place and VM. What cannot be released now is freed by the host's sweep. */
export async function release(ctx: SessionContext, cause: Cause): Promise<void> {
  ctx.hot = undefined;
  ctx.vmGone = undefined;
  if (cause.code === 'HOST_LOST') disownPlaces(ctx);
  const failed = await CancellationScope.nonCancellable(() => ctx.placements.undo.releaseAll(cause.code));
  if (failed.length > 0 && cause.code !== 'HOST_LOST') disownPlaces(ctx);
  if (ctx.state.state.place !== undefined) ctx.state.placed(undefined, cause);
}
