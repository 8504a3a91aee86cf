import { CancellationScope } from '@temporalio/workflow';
import type { StartedRun } from '../../domain/session/run-book.ts';
import type { Cause } from '../../domain/session/session-events.ts';
import type { RunExit } from '../../ports/runs.ts';
import type { SessionContext } from './session-context.ts';
import { verdictOn } from './session-verdict.ts';
import type { HotSession } from './vm/hot-session.ts';
import { saysVmGone } from './vm/vm-gone.ts';

/** Whether the VM is still there after a run. */
export type AfterRun = { readonly vm: 'stays' } | { readonly vm: 'gone'; readonly cause: Cause };

/**
 * Runs the present run to its end, and writes the end into the book.
 * @param mayRepeat where the VM is lost, the run stays the present one, to be started again
 */
export async function runTurn(
  ctx: SessionContext,
  hot: HotSession,
  run: StartedRun,
  mayRepeat: boolean,
): Promise<AfterRun> {
  const { state, name } = ctx;
  const { id: runId, body, timeoutMs, turn } = run;
  const call = { ...ctx.owner.call(hot.placed.epoch), vmId: hot.vmId, turn };
  try {
    const { egress } = state.state.settings;
    const { silentMs } = ctx.policies.run;
    const input = { ...call, name, runId, body, timeoutMs, silentMs, egress };
    endAsExited(ctx, { timeoutMs, silentMs }, await ctx.calls.onHost(hot.placed, () => hot.placed.host.runTurn(input)));
    return { vm: 'stays' };
  } catch (error) {
    const cancel = ctx.cancelCause(runId);
    const verdict = verdictOn(error);
    const code = verdict.kind === 'failure' ? verdict.code : verdict.kind === 'timeout' ? 'TIMED_OUT' : 'CANCELLED';
    const message = verdict.kind === 'cancelled' ? 'It was cancelled.' : verdict.message;
    // Nothing may go on beside the next run. Where that is not sure, the VM is of no more use.
    const isGone = saysVmGone(code) || (code !== 'CANCELLED' && !(await killTurn(ctx, hot, turn)));
    if (cancel !== undefined || code === 'CANCELLED') {
      const cause = cancel ?? { code: 'CANCEL_ASKED' };
      state.endRunning({ as: 'cancelled', cause: cause.code }, cause);
    } else if (!isGone || !mayRepeat) {
      state.endRunning({ as: 'failed', failure: code, message }, { code: 'RUN_FAILED', detail: code });
    }
    return isGone ? { vm: 'gone', cause: { code: code === 'HOST_LOST' ? code : 'VM_DIED', detail: message } } : STAYS;
  }
}

const STAYS: AfterRun = { vm: 'stays' };

function endAsExited(
  { state }: SessionContext,
  { timeoutMs, silentMs }: { timeoutMs: number; silentMs: number },
  exit: RunExit,
): void {
  if (exit.timedOut || exit.silent) {
    const failure = exit.timedOut ? 'RUN_TIMEOUT' : 'RUN_SILENT';
    const message = exit.timedOut
      ? `It took longer than its limit of ${timeoutMs} ms.`
      : `It wrote nothing, used no CPU and moved no bytes to or from the outside for ${silentMs} ms.`;
    state.endRunning({ as: 'failed', failure, message }, { code: 'RUN_FAILED', detail: failure });
    return;
  }
  const { code, signal, outputBytes } = exit;
  const cause = { code: 'RUN_EXITED', detail: signal ?? `code ${code}` } as const;
  state.endRunning({ as: 'finished', code, signal, outputBytes }, cause);
}

/**
 * Kills the present run at once, beside the `runTurn` that waits for it.
 * @returns false where it may go on, or its VM is gone
 */
export async function killTurn(ctx: SessionContext, hot: HotSession, turn: number): Promise<boolean> {
  const call = { ...ctx.owner.call(hot.placed.epoch), vmId: hot.vmId, turn };
  try {
    await CancellationScope.nonCancellable(() => ctx.calls.onHost(hot.placed, () => hot.placed.host.cancelRun(call)));
    return true;
  } catch (error) {
    const verdict = verdictOn(error);
    const why = verdict.kind === 'cancelled' ? 'cancelled' : verdict.message;
    ctx.progress.note(`run ${turn} could not be killed: ${why}`);
    return false;
  }
}
