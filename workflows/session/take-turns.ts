import { patched } from '@temporalio/workflow';
import type { RunVm, StartedRun, WaitingRun } from '../../domain/session/run-book.ts';
import { runTurn } from './run-turn.ts';
import type { SessionContext } from './session-context.ts';
import { verdictOn } from './session-verdict.ts';
import type { HotSession } from './vm/hot-session.ts';
import { vmDied, wake } from './vm/warm-and-wake.ts';

/** Brings the run that waits longest to its end. */
export async function nextRun(ctx: SessionContext): Promise<void> {
  const { state } = ctx;
  const [next] = state.runs.waiting;
  if (next === undefined) return;
  try {
    // A session that leaves waits neither for the store nor for room.
    if (await ctx.work.run(() => hadEnded(ctx, next))) return;
    await ctx.work.run(() => wake(ctx));
  } catch (error) {
    return failWaiting(ctx, next.id, error);
  }
  // It may have been cancelled meanwhile.
  if (ctx.hot === undefined || state.leaving !== undefined) return;
  state.startNext(vmOf(ctx.hot));
  const { running } = state.runs;
  if (running !== undefined) await runToItsEnd(ctx, running);
}

/** An id that the thread may have used before is looked up: no run runs twice. */
async function hadEnded(ctx: SessionContext, run: WaitingRun): Promise<boolean> {
  if (!run.mayBeKnown) return false;
  const found = await ctx.books.findRun({ name: ctx.name, runId: run.id });
  if (found === null) return false;
  ctx.state.wasEnded(found);
  return true;
}

async function runToItsEnd(ctx: SessionContext, first: StartedRun): Promise<void> {
  const { state, policies } = ctx;
  for (let run: StartedRun | undefined = first; run !== undefined && ctx.hot !== undefined; run = state.runs.running) {
    const mayRepeat = run.repeatable && run.repeats < policies.run.repeats;
    const after = await runTurn(ctx, ctx.hot, run, mayRepeat);
    if (after.vm === 'stays') return;
    await vmDied(ctx, after.cause);
    if (state.runs.running === undefined || endIfCancelled(ctx, run)) return;
    try {
      const hot = await ctx.work.run(() => wake(ctx));
      if (endIfCancelled(ctx, run)) return;
      state.repeatRunning(vmOf(hot));
    } catch (error) {
      const { code, message } = inShort(error);
      const cause = ctx.cancelCause(run.id);
      if (cause === undefined) state.endRunning({ as: 'failed', failure: code, message }, { code: 'BOOT_FAILED' });
      else state.endRunning({ as: 'cancelled', cause: cause.code }, cause);
      return;
    }
  }
}

/** A run that was cancelled between two tries is not tried again. */
function endIfCancelled(ctx: SessionContext, { id }: StartedRun): boolean {
  const cause = ctx.cancelCause(id);
  if (cause === undefined || !patched('cancelled-between-tries')) return false;
  ctx.state.endRunning({ as: 'cancelled', cause: cause.code }, cause);
  return true;
}

const vmOf = ({ placed, vmId }: HotSession): RunVm => ({ hostId: placed.hostId, vmId });

/** No VM could be had for it. A session that leaves cancels what waits by itself. */
function failWaiting({ state }: SessionContext, runId: string, error: unknown): void {
  if (state.leaving !== undefined) return;
  const { code, message } = inShort(error);
  state.endWaiting(runId, { as: 'failed', failure: code, message }, { code: 'BOOT_FAILED', detail: code });
}

function inShort(error: unknown): { code: string; message: string } {
  const verdict = verdictOn(error);
  if (verdict.kind === 'failure') return verdict;
  if (verdict.kind === 'cancelled') return { code: 'CANCELLED', message: 'It was cancelled.' };
  return { code: 'TIMED_OUT', message: verdict.message };
}
