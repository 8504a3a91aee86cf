import { CancelledFailure } from '@temporalio/common';
import { allHandlersFinished, CancellationScope, condition, continueAsNew, setHandler } from '@temporalio/workflow';
import type { KnownRun, RunOrder } from '../../domain/session/run-book.ts';
import type { SessionEnd } from '../../domain/session/session-record.ts';
import {
  expiryOf,
  fittingState,
  type RunLook,
  type SessionInput,
  type SessionView,
} from '../../domain/session/session-state.ts';
import { cancelRun, leave } from './cancel-and-leave.ts';
import { changeSettings } from './change-settings.ts';
import { openContext, readBooks } from './open-session.ts';
import { RunRecorder } from './run-recorder.ts';
import type { SessionContext } from './session-context.ts';
import { SessionHolds } from './session-holds.ts';
import {
  cancelRunUpdate,
  changeSettingsUpdate,
  closeSignal,
  holdUpdate,
  releaseSignal,
  runQuery,
  runsQuery,
  sendRunUpdate,
  sessionQuery,
  sleepSignal,
  vmGoneSignal,
} from './session-messages.ts';
import { showDetails } from './state/session-details.ts';
import { lastRuns, lookAt, viewOf } from './state/session-shown.ts';
import { nextRun } from './take-turns.ts';
import { evict, idleAt, restEndsAt } from './vm/evict.ts';
import { wakeToSave } from './vm/save-again.ts';
import { release, rest, vmDied } from './vm/warm-and-wake.ts';

/**
 * One incarnation of a thread: takes its runs, runs them one after another in its VM, and lets the VM wait paused in
 * between. Closes Completed when it is closed or has expired.
 */
export async function sessionWorkflow(input: SessionInput): Promise<SessionEnd> {
  // Carried state first: buffered updates run inside `setHandler`.
  const ctx = openContext(input);
  const holds = new SessionHolds(ctx);
  answer(ctx, holds);
  CancellationScope.current().cancelRequested.catch(() => leave(ctx, { code: 'STOPPED_IN_TEMPORAL' }));
  return CancellationScope.nonCancellable(() => live(ctx, holds, input));
}

function answer(ctx: SessionContext, holds: SessionHolds): void {
  const { state } = ctx;
  setHandler(sessionQuery, (): SessionView => viewOf(ctx.name, state.state));
  setHandler(runQuery, ({ runId }): RunLook => lookAt(runId, state.state));
  setHandler(runsQuery, ({ limit }): readonly KnownRun[] => lastRuns(state.state, limit));
  const take = (order: RunOrder) => {
    const run = state.take(order);
    return { ...lookAt(order.id, state.state), run };
  };
  setHandler(sendRunUpdate, take, { validator: (order) => state.judge(order) });
  setHandler(cancelRunUpdate, ({ runId }) => cancelRun(ctx, runId));
  setHandler(changeSettingsUpdate, (settings) => void changeSettings(ctx, settings));
  setHandler(holdUpdate, (order) => holds.take(order), { validator: (order) => holds.judge(order) });
  setHandler(releaseSignal, ({ id }) => holds.release(id));
  setHandler(closeSignal, (asked) =>
    leave(ctx, asked?.by === undefined ? { code: 'CLOSE_ASKED' } : { code: 'CLOSE_ASKED', detail: asked.by }),
  );
  setHandler(sleepSignal, () => ctx.askSleep());
  setHandler(vmGoneSignal, ({ vmId, reason }) => ctx.noteVmGone(vmId, reason));
}

async function live(ctx: SessionContext, holds: SessionHolds, input: SessionInput): Promise<SessionEnd> {
  const { state } = ctx;
  const recorder = new RunRecorder(ctx);
  if (state.tier === 'new') await readBooks(ctx);
  while (state.leaving === undefined) {
    recorder.start();
    ctx.saver.start();
    showDetails(ctx);
    if (ctx.vmGone !== undefined) await vmDied(ctx, ctx.vmGone);
    else if (holds.isEmpty && ctx.mustContinue('now')) await goOn(ctx, holds, recorder, input);
    else if (holds.needsWake) await holds.wake();
    else if (ctx.hot !== undefined && holds.isEmpty && ctx.saver.mustSaveFirst) await ctx.saver.save(ctx.hot);
    else if (state.runs.waiting.length > 0) await nextRun(ctx);
    else if (ctx.hot !== undefined && holds.isEmpty && ctx.saver.mustSave) await ctx.saver.save(ctx.hot);
    else if (state.tier === 'hot' && ctx.hot !== undefined && holds.isEmpty) await rest(ctx, ctx.hot);
    else if (!(await somethingComes(ctx, holds, recorder))) await goOn(ctx, holds, recorder, input);
  }
  return end(ctx, recorder);
}

/** @returns false where nothing has come and the workflow had better continue as new */
async function somethingComes(ctx: SessionContext, holds: SessionHolds, recorder: RunRecorder): Promise<boolean> {
  const { state, policies } = ctx;
  const came = () =>
    state.leaving !== undefined || state.runs.waiting.length > 0 || ctx.vmGone !== undefined || holds.needsWake;
  if (!holds.isEmpty) {
    await holdsChange(holds, () => came() || recorder.isBehind);
    return true;
  }
  // A caller who waits for the run that has just ended is answered first.
  if (ctx.mustContinue('at rest')) return condition(() => came() || !holds.isEmpty, policies.session.settleMs);
  const endsAt = restEndsAt(ctx);
  // Messages that change nothing, such as a run that is sent again, make the history longer, too.
  const moved = () => restEndsAt(ctx) !== endsAt || !holds.isEmpty || ctx.mustContinue('at rest');
  const restMs = endsAt - Date.now();
  const isBehind = () => recorder.isBehind || ctx.saver.isBehind;
  if (restMs > 0 && (await condition(() => came() || moved() || isBehind(), restMs))) return true;
  if (!came() && holds.isEmpty) await atTheEndOfRest(ctx);
  return true;
}

/** What a session at rest does by itself, once it is time. */
async function atTheEndOfRest(ctx: SessionContext): Promise<void> {
  const isTime = (at: number | undefined) => at !== undefined && Date.now() >= at;
  if (isTime(expiryOf(ctx.state.state))) ctx.state.leave({ as: 'expired', cause: { code: 'TTL_PASSED' } });
  else if (isTime(idleAt(ctx))) await evict(ctx);
  else if (isTime(ctx.saver.saveAgainAt)) await wakeToSave(ctx);
}

/** Waits until the holds end, or end at another time than now. */
async function holdsChange(holds: SessionHolds, came: () => boolean): Promise<void> {
  const { endAt } = holds;
  const changed = () => came() || holds.endAt !== endAt;
  if (endAt === undefined) await condition(changed);
  else await condition(changed, Math.max(1, endAt - Date.now()));
}

/** Continues as new. Returns only where something has come meanwhile that does not travel: a hold, or an end. */
async function goOn(ctx: SessionContext, holds: SessionHolds, recorder: RunRecorder, input: SessionInput) {
  await recorder.untilItFits();
  const hasCome = () => !holds.isEmpty || ctx.state.leaving !== undefined || ctx.vmGone !== undefined;
  // A hold that waits for the VM waits for the main loop.
  await condition(() => hasCome() || allHandlersFinished());
  if (hasCome()) return;
  const { name, settings, policies } = { ...input, settings: ctx.state.state.settings };
  // Placements that failed have their epochs, too: their VMs may have claimed the head.
  const epoch = Math.max(ctx.state.state.epoch, ctx.placements.epoch);
  const carried = fittingState({ ...ctx.state.carried(), epoch });
  await continueAsNew<typeof sessionWorkflow>({
    schemaVersion: 1,
    name,
    settings,
    carried,
    ...(policies === undefined ? {} : { policies }),
  });
}

async function end(ctx: SessionContext, recorder: RunRecorder): Promise<SessionEnd> {
  const { state, name, books } = ctx;
  const { leaving } = state;
  if (leaving === undefined) throw new CancelledFailure('a session ended without a cause');
  for (const { id } of state.runs.waiting) {
    state.endWaiting(id, { as: 'cancelled', cause: 'SESSION_CLOSED' }, leaving.cause);
  }
  if (ctx.hot !== undefined && ctx.saver.mustSave) await ctx.saver.save(ctx.hot);
  await ctx.saver.lastUpload();
  await release(ctx, leaving.cause);
  if (state.tier !== 'cold') state.enter('cold', leaving.cause);
  state.enter(leaving.as, leaving.cause);
  showDetails(ctx);
  await recorder.untilAllIsRecorded();
  await condition(allHandlersFinished);
  if (leaving.recorded !== undefined) return leaving.recorded;
  const at = new Date().toISOString();
  const record: SessionEnd = { as: leaving.as, at, cause: leaving.cause.code, lastTurn: state.runs.turn };
  await books.endSession({ name, end: record });
  return record;
}
