import { CancelledFailure } from '@temporalio/common';
import { CancellationScope, condition, continueAsNew, setHandler, workflowInfo } from '@temporalio/workflow';
import type { KnownRun } from '../../domain/session/run-book.ts';
import type { SessionEnd } from '../../domain/session/session-record.ts';
import { expiryOf, type RunLook, type SessionInput, type SessionView } from '../../domain/session/session-state.ts';
import { cancelRun, leave } from './cancel-and-leave.ts';
import { changeSettings } from './change-settings.ts';
import { openContext, readBooks } from './open-session.ts';
import { RunRecorder } from './run-recorder.ts';
import type { SessionContext } from './session-context.ts';
import { showDetails } from './session-details.ts';
import {
  cancelRunUpdate,
  changeSettingsUpdate,
  closeSignal,
  runQuery,
  runsQuery,
  sendRunUpdate,
  sessionQuery,
  vmGoneSignal,
} from './session-messages.ts';
import { nextRun } from './take-turns.ts';
import { release, rest, vmDied } from './warm-and-wake.ts';

/**
 * One incarnation of a thread: takes its runs, runs them one after another in its VM, and lets the VM wait paused in
 * between. Closes Completed when it is closed or has expired.
 */
export async function sessionWorkflow(input: SessionInput): Promise<SessionEnd> {
  // Carried state first: buffered updates run inside `setHandler`.
  const ctx = openContext(input);
  answer(ctx);
  CancellationScope.current().cancelRequested.catch(() => leave(ctx, { code: 'STOPPED_IN_TEMPORAL' }));
  return CancellationScope.nonCancellable(() => live(ctx, input));
}

function answer(ctx: SessionContext): void {
  const { state } = ctx;
  setHandler(sessionQuery, (): SessionView => state.view(ctx.name));
  setHandler(runQuery, ({ runId }): RunLook => state.look(runId));
  setHandler(runsQuery, ({ limit }): readonly KnownRun[] => state.lastRuns(limit));
  setHandler(sendRunUpdate, (order) => state.take(order), { validator: (order) => state.judge(order) });
  setHandler(cancelRunUpdate, ({ runId }) => cancelRun(ctx, runId));
  setHandler(changeSettingsUpdate, (settings) => void changeSettings(ctx, settings));
  setHandler(closeSignal, (asked) =>
    leave(ctx, asked?.by === undefined ? { code: 'CLOSE_ASKED' } : { code: 'CLOSE_ASKED', detail: asked.by }),
  );
  setHandler(vmGoneSignal, ({ vmId, reason }) => ctx.noteVmGone(vmId, reason));
}

async function live(ctx: SessionContext, input: SessionInput): Promise<SessionEnd> {
  const { state } = ctx;
  const recorder = new RunRecorder(ctx);
  if (state.tier === 'new') await readBooks(ctx);
  while (state.leaving === undefined) {
    recorder.start();
    showDetails(ctx);
    if (ctx.vmGone !== undefined) await vmDied(ctx, ctx.vmGone);
    else if (mustContinue(ctx, 'now')) await goOn(ctx, recorder, input);
    else if (state.runs.waiting.length > 0) await nextRun(ctx);
    else if (state.tier === 'hot' && ctx.hot !== undefined) await rest(ctx, ctx.hot);
    else if (!(await somethingComes(ctx, recorder))) await goOn(ctx, recorder, input);
  }
  return end(ctx, recorder);
}

/** @returns false where nothing has come and the workflow had better continue as new */
async function somethingComes(ctx: SessionContext, recorder: RunRecorder): Promise<boolean> {
  const { state, policies } = ctx;
  const came = () => state.leaving !== undefined || state.runs.waiting.length > 0 || ctx.vmGone !== undefined;
  // A caller who waits for the run that has just ended is answered first.
  if (mustContinue(ctx, 'at rest')) return condition(came, policies.session.settleMs);
  const expiresAt = expiryOf(state.state);
  const moved = () => expiryOf(state.state) !== expiresAt;
  const restMs = expiresAt - Date.now();
  if (restMs > 0 && (await condition(() => came() || moved() || recorder.isBehind, restMs))) return true;
  if (!came() && Date.now() >= expiryOf(state.state)) state.leave({ as: 'expired', cause: { code: 'TTL_PASSED' } });
  return true;
}

function mustContinue({ policies }: SessionContext, when: 'now' | 'at rest'): boolean {
  const { continueAsNewSuggested, historyLength } = workflowInfo();
  const { continueAfter, continueAnywayAfter } = policies.session;
  return continueAsNewSuggested || historyLength > (when === 'now' ? continueAnywayAfter : continueAfter);
}

async function goOn(ctx: SessionContext, recorder: RunRecorder, input: SessionInput): Promise<void> {
  await recorder.untilItFits();
  const { name, settings, policies } = { ...input, settings: ctx.state.state.settings };
  const carried = ctx.state.carried();
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
  await release(ctx, leaving.cause);
  if (state.tier !== 'cold') state.enter('cold', leaving.cause);
  state.enter(leaving.as, leaving.cause);
  showDetails(ctx);
  await recorder.untilAllIsRecorded();
  if (leaving.recorded !== undefined) return leaving.recorded;
  const at = new Date().toISOString();
  const record: SessionEnd = { as: leaving.as, at, cause: leaving.cause.code, lastTurn: state.runs.turn };
  await books.endSession({ name, end: record });
  return record;
}
