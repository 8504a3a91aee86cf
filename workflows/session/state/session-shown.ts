/** What callers of a session see of its state. */
import { defined } from '../../../domain/defined.ts';
import type { SessionName } from '../../../domain/names.ts';
import { findRun, type KnownRun, turnAhead } from '../../../domain/session/run-book.ts';
import {
  type CarriedSession,
  expiryOf,
  type RunLook,
  type SessionView,
} from '../../../domain/session/session-state.ts';

export function viewOf(name: SessionName, state: CarriedSession): SessionView {
  const { settings, place, events, tiers, saves } = state;
  const { waiting, running, turn, lost } = state.runs;
  const runs = { waiting, turn, ...defined({ running, lost }) };
  return {
    name,
    tier: tiers.state,
    settings,
    runs,
    expiresAtMs: expiryOf(state),
    ...defined({ place, saves }),
    events,
  };
}

export function lookAt(runId: string, { runs, place, saves }: CarriedSession): RunLook {
  const savedTurn = saves?.stored?.turn;
  return { nextTurn: turnAhead(runs), ...defined({ run: findRun(runs, runId), place, savedTurn }) };
}

/** The present run and those that wait, then the last that ended: the newest first. */
export function lastRuns({ runs }: CarriedSession, limit: number): readonly KnownRun[] {
  const { waiting, running, ended } = runs;
  const ids = [...ended, ...(running === undefined ? [] : [running]), ...waiting].map(({ id }) => id);
  const newest = ids.reverse().slice(0, limit);
  return newest.flatMap((id) => findRun(runs, id) ?? []);
}
