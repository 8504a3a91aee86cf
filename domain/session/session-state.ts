/** The state that a session's workflow carries with it, and what it shows. Pure. */
import { defined } from '../defined.ts';
import { emptyLedger, type TransitionLedger } from '../lifecycle/lifecycle.ts';
import type { SessionName } from '../names.ts';
import type { SessionPolicyOverrides } from '../policies.ts';
import { type CarriedRunIds, NO_RUN_IDS } from './known-run-ids.ts';
import { type EndedRun, type KnownRun, loseWorkspace, NO_RUNS, type RunBook } from './run-book.ts';
import {
  hasAllStored,
  NO_SAVES,
  type SaveBook,
  type SaveMark,
  storedUpTo,
  vmIsGone,
  vmIsThere,
  wholeSave,
} from './save-book.ts';
import type { Cause, SessionEvent } from './session-events.ts';
import type { SessionEnd, SessionSettings } from './session-record.ts';
import { SESSION_LIFECYCLE, type Tier } from './tiers.ts';

/** Where the session's VM is. */
export interface SessionPlace {
  readonly hostId: string;
  readonly epoch: number;
  readonly reservationId: string;
  readonly boot: number;
  readonly vmId: string;
}

/** Carried from one execution to the next; read whole in the first synchronous step. */
export interface CarriedSession {
  readonly schemaVersion: 1;
  readonly settings: SessionSettings;
  readonly tiers: TransitionLedger<Tier>;
  readonly runs: RunBook;
  readonly knownRunIds: CarriedRunIds;
  readonly events: readonly SessionEvent[];
  /** Ends of runs that are not in the store yet. */
  readonly unrecorded: readonly EndedRun[];
  /** ms since 1970: a run was accepted or ended, a file was written, bytes went over a hold. */
  readonly lastActivityMs: number;
  readonly epoch: number;
  readonly place?: SessionPlace;
  /** A host that was lost although it registers: it may still let the VM there run. */
  readonly mayRunOn?: string;
  /** Its VM is to be given up as soon as that is possible. */
  readonly sleepAsked?: true;
  /** Absent in a state of before there were saves. */
  readonly saves?: SaveBook;
}

/** Input of the workflow. */
export interface SessionInput {
  readonly schemaVersion: 1;
  readonly name: SessionName;
  /** As on record when the first execution was started. */
  readonly settings: SessionSettings;
  readonly policies?: SessionPolicyOverrides;
  /** From the execution before; absent: this is the first one, or Temporal has lost those before. */
  readonly carried?: CarriedSession;
}

/** How the session is to end; the first cause in history order wins. */
export interface SessionLeaving {
  readonly as: 'closed' | 'expired';
  readonly cause: Cause;
  /** The end that is on record already: nothing more is to be noted. */
  readonly recorded?: SessionEnd;
}

/** @returns how a session leaves whose record says that it is over; no end on record: another one has followed it */
export function leavingAsRecorded(end: SessionEnd | undefined, at: string): SessionLeaving {
  const as = end?.as === 'expired' ? 'expired' : 'closed';
  const recorded = end ?? { as, at, cause: 'CLOSE_ASKED', lastTurn: 0 };
  return { as, cause: { code: as === 'expired' ? 'TTL_PASSED' : 'CLOSE_ASKED' }, recorded };
}

/** What the workflow shows to callers. */
export interface SessionView {
  readonly name: SessionName;
  readonly tier: Tier;
  readonly settings: SessionSettings;
  readonly runs: Pick<RunBook, 'waiting' | 'running' | 'turn' | 'lost'>;
  readonly expiresAtMs: number;
  readonly place?: SessionPlace;
  readonly events: readonly SessionEvent[];
  readonly saves?: SaveBook;
}

/** @returns when the session expires without further activity, ms since 1970 */
export function expiryOf({ lastActivityMs, settings }: Pick<CarriedSession, 'lastActivityMs' | 'settings'>): number {
  return lastActivityMs + settings.tiers.ttlMs;
}

/** One run as the workflow knows it by itself, and where it is or will be. */
export interface RunLook {
  readonly run?: KnownRun;
  readonly place?: SessionPlace;
  /** The workspace as it was after this turn is in the store. */
  readonly savedTurn?: number;
  /** Turn of a run that has none ahead, the present one included. */
  readonly nextTurn: number;
}

/** A run, and where it is or will be. */
export interface LocatedRun extends RunLook {
  readonly run: KnownRun;
  /** The session that has or had it. */
  readonly session: SessionName;
}

/** Most bytes that an execution hands to the next one: the server ends a workflow whose input is beyond 2 MiB. */
export const MAX_CARRIED_BYTES = 1024 * 1024;
const utf8 = new TextEncoder();

/** @returns what a state takes on its way to the next execution, bytes */
export function carriedBytes(carried: CarriedSession): number {
  return utf8.encode(JSON.stringify(carried)).length;
}

/**
 * @returns the state without as many of the oldest ended runs as are needed to keep it within the limit: the store answers for these
 * @throws Error where it is too large even so
 */
export function fittingState(carried: CarriedSession, maxBytes: number = MAX_CARRIED_BYTES): CarriedSession {
  let fitting = carried;
  while (carriedBytes(fitting) > maxBytes) {
    const { runs, unrecorded } = fitting;
    const ended = runs.ended.slice(Math.ceil(runs.ended.length / 4));
    if (ended.length === runs.ended.length || unrecorded.length > 0) {
      throw new Error(`the state of a session takes ${carriedBytes(fitting)} bytes, and ${maxBytes} can be carried on`);
    }
    fitting = { ...fitting, runs: { ...runs, ended } };
  }
  return fitting;
}

/** Ends of runs that wait for the store; beyond this, the session takes no new run. */
export const MAX_UNRECORDED = 500;

/**
 * An earlier workflow of the session has left a head: its saves count, and none of its names is used again.
 * @param head the placement that has it, and what it names
 */
export function goOnFrom(
  state: CarriedSession,
  { epoch, mark }: { readonly epoch: number; readonly mark?: SaveMark },
): CarriedSession {
  const later = { ...state, epoch: Math.max(state.epoch, epoch) };
  if (mark === undefined) return later;
  const saves = { ...(state.saves ?? NO_SAVES), asked: mark.n, stored: mark };
  const hasAll = mark.turn >= state.runs.turn;
  const runs = hasAll ? state.runs : loseWorkspace(state.runs, 'Temporal has lost its workflow', mark.turn);
  return { ...later, saves, runs };
}

/** What was not saved is lost, for the reason that is told. */
export function withLoss(state: CarriedSession, reason: string): CarriedSession {
  const saves = state.saves ?? NO_SAVES;
  if (hasAllStored(saves)) return state;
  const runs = loseWorkspace(state.runs, reason, saves.stored?.turn);
  const isNew = state.runs.lost === undefined && runs.lost !== undefined;
  const atLoss = defined({ wholeAt: wholeSave(saves) });
  return { ...state, runs, ...(isNew ? { saves: { ...saves, atLoss } } : {}) };
}

/**
 * The next VM has the workspace as this save has it. An upload may have ended without a word of it before the VM was lost:
 * the loss is what this save does not have, and none where it has everything.
 */
export function withRestored(
  runs: RunBook,
  saves: SaveBook,
  mark: SaveMark,
): { readonly runs: RunBook; readonly saves: SaveBook } {
  const stored = storedUpTo(saves, mark);
  const { lost, ...rest } = runs;
  if (lost === undefined || saves.atLoss === undefined) return { runs, saves: stored };
  const { wholeAt } = saves.atLoss;
  if (wholeAt !== undefined && mark.n >= wholeAt) return { runs: rest, saves: stored };
  return { runs: { ...rest, lost: { ...lost, restoredTurn: mark.turn } }, saves: stored };
}

/** A VM is there. What was lost with the one before is settled: later saves have nothing to say about that. */
export function withVm(state: CarriedSession, place: SessionPlace): CarriedSession {
  const { saves, epoch: _, ...rest } = state;
  return { ...rest, place, epoch: place.epoch, ...(saves === undefined ? {} : { saves: vmIsThere(saves) }) };
}

/** The VM is gone, with all that only its host had of the session. */
export function withoutVm({ sleepAsked, ...state }: CarriedSession): CarriedSession {
  return { ...state, saves: vmIsGone(state.saves ?? NO_SAVES) };
}

/** @returns a session that nothing has happened to yet */
export function newSession(settings: SessionSettings, nowMs: number): CarriedSession {
  return {
    schemaVersion: 1,
    settings,
    tiers: emptyLedger(SESSION_LIFECYCLE),
    runs: NO_RUNS,
    knownRunIds: NO_RUN_IDS,
    events: [],
    unrecorded: [],
    lastActivityMs: nowMs,
    epoch: 0,
  };
}
