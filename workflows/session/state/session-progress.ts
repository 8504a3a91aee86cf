import type { OpenedSession } from '../../../activities/session/session-types.ts';
import { KilnError } from '../../../domain/failures.ts';
import { applyTransition, withLastMoves } from '../../../domain/lifecycle/lifecycle.ts';
import { KnownRunIds } from '../../../domain/session/known-run-ids.ts';
import {
  type EndedRun,
  endRunning,
  endWaiting,
  findRun,
  judgeOrder,
  type KnownRun,
  type RunBook,
  type RunOrder,
  type RunOutcome,
  type RunVm,
  repeatRun,
  startNext,
  takeOrder,
  withUsedIds,
  writeFiles,
} from '../../../domain/session/run-book.ts';
import { filesChange, NO_SAVES, runStarts, type SaveBook } from '../../../domain/session/save-book.ts';
import {
  type Cause,
  causeInWords,
  type SessionChange,
  type SessionEvent,
  withEvent,
} from '../../../domain/session/session-events.ts';
import { changedSettings, type SessionEnd, type SessionSettings } from '../../../domain/session/session-record.ts';
import {
  type CarriedSession,
  goOnFrom,
  leavingAsRecorded,
  MAX_UNRECORDED,
  type SessionLeaving,
  type SessionPlace,
  withLoss,
  withoutVm,
  withVm,
} from '../../../domain/session/session-state.ts';
import { SESSION_LIFECYCLE, type Tier } from '../../../domain/session/tiers.ts';
import { setAttributes } from '../../search-attributes.ts';
import { asFailure, failureOf, sessionEnded, storeBehind } from './session-failures.ts';

const LAST_MOVES = 20;

/** The state of a session in its workflow: the one place that changes it, each time with a cause. */
export class SessionProgress {
  state: CarriedSession;
  leaving: SessionLeaving | undefined;
  private known: KnownRunIds;

  constructor(state: CarriedSession) {
    this.state = state;
    this.known = new KnownRunIds(state.knownRunIds);
  }

  get tier(): Tier {
    return this.state.tiers.state;
  }

  get runs(): RunBook {
    return this.state.runs;
  }

  get saves(): SaveBook {
    return this.state.saves ?? NO_SAVES;
  }

  /** As the next execution gets it. */
  carried(): CarriedSession {
    return { ...this.state, knownRunIds: this.known.carried() };
  }

  /** Takes over what is on record; runs may have been taken before it was read. */
  open({ settings, knownRunIds, turn, head }: OpenedSession & { state: 'open' }): void {
    const used = new KnownRunIds(knownRunIds);
    const runs = { ...withUsedIds(this.runs, used), turn: Math.max(this.runs.turn, turn) };
    for (const { idSha256 } of runs.waiting) used.add(idSha256);
    this.known = used;
    this.change({ settings, runs });
    if (head !== undefined) this.state = goOnFrom(this.state, head);
    this.enter('cold', { code: 'MESSAGE' });
  }

  /** @throws KilnError INVALID_TRANSITION */
  enter(to: Tier, cause: Cause): void {
    const { tiers } = this.state;
    const moved = applyTransition(SESSION_LIFECYCLE, tiers, { to, at: now(), cause: cause.code });
    this.state = { ...this.state, tiers: withLastMoves(moved, LAST_MOVES) };
    setAttributes({ KilnTier: to });
    this.note({ of: 'tier', from: tiers.state, to }, cause);
  }

  /** Whether an order can be taken now. @throws ApplicationFailure with a code, in an update's validator */
  judge(order: RunOrder): void {
    asFailure(() => {
      if (judgeOrder(this.runs, order) === 'known') return;
      this.assertStays();
      if (this.state.unrecorded.length >= MAX_UNRECORDED) throw storeBehind(this.state.unrecorded.length);
    });
  }

  /** @throws KilnError SESSION_CLOSED, SESSION_EXPIRED where the session leaves */
  assertStays(): void {
    if (this.leaving !== undefined) throw sessionEnded(this.leaving);
  }

  /** Takes an order, once. @throws ApplicationFailure as `judge` */
  take(order: RunOrder): KnownRun {
    this.judge(order);
    const before = this.runs;
    const runs = takeOrder(before, this.known, order, now());
    if (runs !== before) {
      // Until its record was read, any id may be one that the thread has used.
      this.change({ runs: this.tier === 'new' ? withUsedIds(runs, { mayHave: () => true }) : runs });
      this.touch();
      this.note({ of: 'run', runId: order.id, to: 'waiting' }, { code: 'RUN_ASKED' });
    }
    return this.mustFind(order.id);
  }

  startNext(vm: RunVm): void {
    this.change({ runs: startNext(this.runs, vm, now()), saves: runStarts(this.saves) });
    const { running } = this.runs;
    if (running !== undefined) this.note({ of: 'run', runId: running.id, to: 'running' }, { code: 'RUN_TURN' });
  }

  repeatRunning(vm: RunVm): void {
    this.change({ runs: repeatRun(this.runs, vm), saves: runStarts(this.saves) });
    const { running } = this.runs;
    if (running !== undefined) this.note({ of: 'run', runId: running.id, to: 'running' }, { code: 'RUN_REPEATED' });
  }

  endRunning(outcome: RunOutcome, cause: Cause): void {
    const { running } = this.runs;
    if (running === undefined) return;
    this.change({ runs: endRunning(this.runs, outcome, now()) });
    this.ended(running.id, outcome, cause);
    this.touch();
  }

  endWaiting(runId: string, outcome: RunOutcome, cause: Cause): void {
    const before = this.runs;
    this.change({ runs: endWaiting(before, runId, outcome, now()) });
    if (this.runs !== before) this.ended(runId, outcome, cause);
  }

  /** That run ended long ago, with this body or another one: the store answers for it. */
  wasEnded({ id, outcome }: EndedRun): void {
    this.change({ runs: { ...this.runs, waiting: this.runs.waiting.filter((run) => run.id !== id) } });
    this.note({ of: 'run', runId: id, to: outcome.as }, { code: 'KNOWN_RUN' });
  }

  /** These ends are in the store. */
  recorded(runs: readonly EndedRun[]): void {
    this.change({ unrecorded: this.state.unrecorded.filter((run) => !runs.includes(run)) });
  }

  /** Takes changed settings. @returns the names of those that differ */
  changeSettings(settings: SessionSettings): readonly string[] {
    const fields = changedSettings(this.state.settings, settings);
    if (fields.length === 0) return fields;
    this.change({ settings });
    this.note({ of: 'settings', fields }, { code: 'PATCHED' });
    return fields;
  }

  placed(place: SessionPlace | undefined, cause: Cause): void {
    const { place: before, ...rest } = this.state;
    this.state = place === undefined ? rest : withVm(rest, place);
    const vmId = place?.vmId ?? before?.vmId;
    if (vmId !== undefined) this.note({ of: 'vm', vmId, to: place === undefined ? 'gone' : 'running' }, cause);
  }

  /** A file is written beside the runs. */
  writeFiles(): void {
    this.change({ runs: writeFiles(this.runs), saves: filesChange(this.saves) });
  }

  /** Its VM ended, and with it what was not saved: the next run is told. */
  loseWorkspace(cause: Cause): void {
    this.state = withoutVm(withLoss(this.state, causeInWords(cause)));
  }

  /** The VM is given up, with all that only its host has of the session. */
  forgetVm(): void {
    this.state = withoutVm(this.state);
  }

  askSleep(): void {
    this.change({ sleepAsked: true });
  }

  /** @param hostId undefined: nowhere any more */
  noteMayRunOn(hostId: string | undefined): void {
    const { mayRunOn: _, ...state } = this.state;
    this.state = hostId === undefined ? state : { ...state, mayRunOn: hostId };
  }

  changeSaves(saves: SaveBook, runs: RunBook = this.runs): void {
    this.change({ saves, runs });
  }

  /** The first cause wins. @returns whether it was the first */
  leave(leaving: SessionLeaving): boolean {
    if (this.leaving !== undefined) return false;
    this.leaving = leaving;
    return true;
  }

  /** The record says that this incarnation is over: what was taken meanwhile is told so. */
  leaveUnrecorded(end: SessionEnd | undefined): void {
    this.enter('cold', { code: 'MESSAGE' });
    this.leaving = leavingAsRecorded(end, now());
  }

  find(runId: string): KnownRun | undefined {
    return findRun(this.runs, runId);
  }

  mustFind(runId: string): KnownRun {
    const found = this.find(runId);
    if (found !== undefined) return found;
    throw failureOf(new KilnError('NOT_FOUND', `This session knows no run ${runId}.`));
  }

  note(change: SessionChange, cause: Cause): void {
    const events: readonly SessionEvent[] = withEvent(this.state.events, change, { at: now(), cause });
    this.change({ events });
  }

  private ended(runId: string, outcome: RunOutcome, cause: Cause): void {
    const run = this.find(runId);
    if (run?.state === 'ended') this.change({ unrecorded: [...this.state.unrecorded, run.run] });
    this.note({ of: 'run', runId, to: outcome.as }, cause);
  }

  /** Activity: the session expires that much later. */
  touch(): void {
    this.change({ lastActivityMs: Date.now() });
  }

  private change(change: Partial<CarriedSession>): void {
    this.state = { ...this.state, ...change };
  }
}

const now = () => new Date().toISOString();
