import type { KnownRun } from '../../domain/session/run-book.ts';
import type { Cause } from '../../domain/session/session-events.ts';
import { killTurn } from './run-turn.ts';
import type { SessionContext } from './session-context.ts';

/** Cancels a run that waits or runs. @throws ApplicationFailure NOT_FOUND */
export function cancelRun(ctx: SessionContext, runId: string): KnownRun {
  const { state } = ctx;
  const cause = { code: 'CANCEL_ASKED' } as const;
  state.endWaiting(runId, { as: 'cancelled', cause: cause.code }, cause);
  if (state.runs.running?.id === runId) cancelRunning(ctx, cause);
  return state.mustFind(runId);
}

/** Synchronous and idempotent: signal handlers call it. The main loop does the rest. */
export function leave(ctx: SessionContext, cause: Cause): void {
  if (!ctx.state.leave({ as: 'closed', cause })) return;
  if (ctx.state.runs.running === undefined) ctx.work.interrupt();
  else cancelRunning(ctx, cause);
}

function cancelRunning(ctx: SessionContext, cause: Cause): void {
  const { running } = ctx.state.runs;
  if (running === undefined || ctx.cancelCause(running.id) !== undefined) return;
  ctx.noteCancel(running.id, cause);
  // Between two tries of a repeatable run there is no VM, and nothing to kill.
  if (ctx.hot === undefined) ctx.work.interrupt();
  else void killTurn(ctx, ctx.hot, running.turn);
}
