/** What callers send to a session's workflow. */
import { defineQuery, defineSignal, defineUpdate } from '@temporalio/workflow';
import type { KnownRun, RunOrder } from '../../domain/session/run-book.ts';
import type { SessionSettings } from '../../domain/session/session-record.ts';
import type { RunLook, SessionView } from '../../domain/session/session-state.ts';

export const SESSION_WORKFLOW = 'sessionWorkflow';

/**
 * Takes an order; the same one again answers for the same run.
 * @throws CONFLICT, QUEUE_FULL, SESSION_CLOSED, SESSION_EXPIRED, STORE_UNAVAILABLE (the ends of too many runs wait for it)
 */
export const sendRunUpdate = defineUpdate<KnownRun, [RunOrder]>('sendRun');
/** Cancels a run that waits or runs. An ended one stays as it ended. @throws NOT_FOUND */
export const cancelRunUpdate = defineUpdate<KnownRun, [{ readonly runId: string }]>('cancelRun');
/** Takes settings that are on record already: egress and tiers at once, resources at the next boot. Idempotent. */
export const changeSettingsUpdate = defineUpdate<void, [SessionSettings]>('changeSettings');
/** Closes the session: the present run and all that wait are cancelled. Idempotent. */
export const closeSignal = defineSignal<[{ readonly by?: string }?]>('close');
/** The host of the session says that its VM has ended. */
export const vmGoneSignal = defineSignal<[{ readonly vmId: string; readonly reason: string }]>('vmGone');
export const sessionQuery = defineQuery<SessionView>('session');
/** One run: of those that wait or run, and the last that ended. */
export const runQuery = defineQuery<RunLook, [{ readonly runId: string }]>('run');
/** The runs that wait, the present one, and the last that ended, the newest first. */
export const runsQuery = defineQuery<readonly KnownRun[], [{ readonly limit: number }]>('runs');
