/** What callers send to a session's workflow. */
import { defineQuery, defineSignal, defineUpdate } from '@temporalio/workflow';
import type { HeldVm, HoldOrder } from '../../domain/session/holds.ts';
import type { KnownRun, RunOrder } from '../../domain/session/run-book.ts';
import type { SessionSettings } from '../../domain/session/session-record.ts';
import type { RunLook, SessionView } from '../../domain/session/session-state.ts';

export const SESSION_WORKFLOW = 'sessionWorkflow';

/**
 * Takes an order; the same one again answers for the same run, and tells where that is or will be.
 * @throws CONFLICT, QUEUE_FULL, SESSION_CLOSED, SESSION_EXPIRED, STORE_UNAVAILABLE (the ends of too many runs wait for it)
 */
export const sendRunUpdate = defineUpdate<RunLook & { readonly run: KnownRun }, [RunOrder]>('sendRun');
/** Cancels a run that waits or runs. An ended one stays as it ended. @throws NOT_FOUND */
export const cancelRunUpdate = defineUpdate<KnownRun, [{ readonly runId: string }]>('cancelRun');
/** Takes settings that are on record already: egress and tiers at once, resources at the next boot. Idempotent. */
export const changeSettingsUpdate = defineUpdate<void, [SessionSettings]>('changeSettings');
/**
 * Wakes the session and keeps its VM running, beside its runs, until the hold is released or has lasted for the policy
 * `session.holdMs`. The same id again keeps it for longer.
 * @throws QUEUE_FULL, SESSION_CLOSED, SESSION_EXPIRED, CANCELLED (released meanwhile); the code of what stood in the way
 */
export const holdUpdate = defineUpdate<HeldVm, [HoldOrder]>('hold');
/** Ends a hold, also one that still waits. Idempotent. */
export const releaseSignal = defineSignal<[{ readonly id: string }]>('release');
/** Closes the session: the present run and all that wait are cancelled. Idempotent. */
export const closeSignal = defineSignal<[{ readonly by?: string }?]>('close');
/** Gives up the VM as soon as nothing uses it and its workspace is in the store. Idempotent. */
export const sleepSignal = defineSignal<[]>('sleep');
/** The host of the session says that its VM has ended. */
export const vmGoneSignal = defineSignal<[{ readonly vmId: string; readonly reason: string }]>('vmGone');
export const sessionQuery = defineQuery<SessionView>('session');
/** One run: of those that wait or run, and the last that ended. */
export const runQuery = defineQuery<RunLook, [{ readonly runId: string }]>('run');
/** The runs that wait, the present one, and the last that ended, the newest first. */
export const runsQuery = defineQuery<readonly KnownRun[], [{ readonly limit: number }]>('runs');
