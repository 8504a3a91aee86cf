/**
 * The fault table of sessions: what a session does on its way × the faults in the middle of each, and what must come of
 * the run that is under way. Only data: `session-faults.test.ts` runs it.
 */
import type { SessionBookActivities, SessionHostActivities } from '../../activities/session/session-types.ts';
import type { SessionPolicyOverrides } from '../../domain/policies.ts';
import { FAST_SESSIONS } from '../support/workers/kiln-harness.ts';
import type { Moment } from '../support/workers/port-gates.ts';

/** What goes wrong, once: an error without a code, the store unavailable, a call that comes back only much later. */
export const SESSION_FAULTS = ['fails', 'store-away', 'hangs'] as const;
export type SessionFault = (typeof SESSION_FAULTS)[number];

/** What the session is doing when the fault comes. */
export type Way = 'begins' | 'runs' | 'rests' | 'cancels';

/** How the run under way ends, and how often its process was started. */
export type Outcome = `${'finished' | 'cancelled' | `failed ${string}`}, ${number} start`;

export interface SessionRow {
  readonly way: Way;
  readonly activity: keyof SessionBookActivities | keyof SessionHostActivities;
  /** The port call in the middle of which it goes wrong. */
  readonly port: string;
  readonly moments: readonly Moment[];
  readonly outcomes: Readonly<Record<SessionFault, Outcome>>;
}

/** Longer than any working call takes on a busy machine. */
const GIVEN_UP_MS = 3_000;
/** Limit of a run that is to hang: longer than its command takes on a busy machine. */
export const RUN_MS = 4_000;

/** With these, a call that hangs is given up soon. */
export const POLICIES: SessionPolicyOverrides = {
  ...FAST_SESSIONS,
  placement: { deadlineMs: 60_000, backoffMs: 20, maxBackoffMs: 100 },
  control: { startToCloseMs: GIVEN_UP_MS },
  run: { heartbeatMs: 1_500, marginMs: 500 },
  save: { ...FAST_SESSIONS.save, saveMs: GIVEN_UP_MS, uploadMs: GIVEN_UP_MS, restoreMs: GIVEN_UP_MS },
};

const BOTH: readonly Moment[] = ['before', 'after'];
/** Tried again until it works. */
const RECOVERS = { fails: 'finished, 1 start', 'store-away': 'finished, 1 start', hangs: 'finished, 1 start' } as const;
/** An error without a code is no reason to run it again: it would most likely happen again. */
const NEVER_STARTED = {
  ...RECOVERS,
  fails: 'failed INTERNAL, 0 start',
  hangs: 'failed TIMED_OUT, 0 start',
} as const;
const CANCELLED = {
  fails: 'cancelled, 1 start',
  'store-away': 'cancelled, 1 start',
  hangs: 'cancelled, 1 start',
} as const;

export const SESSION_ROWS: readonly SessionRow[] = [
  { way: 'begins', activity: 'openSession', port: 'sessionBooks.sessions.read', moments: BOTH, outcomes: RECOVERS },
  { way: 'begins', activity: 'openSession', port: 'sessionBooks.runs.used', moments: BOTH, outcomes: RECOVERS },
  { way: 'runs', activity: 'runTurn', port: 'sessions.vms.setEgress', moments: BOTH, outcomes: NEVER_STARTED },
  { way: 'runs', activity: 'runTurn', port: 'sessions.requests.open', moments: BOTH, outcomes: NEVER_STARTED },
  { way: 'runs', activity: 'runTurn', port: 'sessions.runs.run', moments: ['before'], outcomes: NEVER_STARTED },
  {
    way: 'runs',
    activity: 'runTurn',
    port: 'sessions.runs.run',
    moments: ['after'],
    // Its end is lost, and is not asked for again.
    outcomes: { ...RECOVERS, fails: 'failed INTERNAL, 1 start', hangs: 'failed TIMED_OUT, 1 start' },
  },
  { way: 'rests', activity: 'saveWorkspace', port: 'sessions.saves.snapshot', moments: BOTH, outcomes: RECOVERS },
  { way: 'rests', activity: 'uploadSaves', port: 'sessions.saves.upload', moments: BOTH, outcomes: RECOVERS },
  { way: 'rests', activity: 'pauseVm', port: 'sessions.vms.pause', moments: BOTH, outcomes: RECOVERS },
  {
    way: 'runs',
    activity: 'resumeVm',
    port: 'sessions.vms.resume',
    moments: BOTH,
    outcomes: { ...RECOVERS, fails: 'failed INTERNAL, 0 start' },
  },
  { way: 'cancels', activity: 'cancelRun', port: 'sessions.runs.cancel', moments: BOTH, outcomes: CANCELLED },
];

/** Cells that are not tested, and the reason. */
export const SENSELESS: readonly string[] = [
  'openSession: "after its effect" is "its answer is lost": it only reads',
  'resumeVm, pauseVm, cancelRun × store-away: they need no store; an outage that they report is waited for all the same',
];
