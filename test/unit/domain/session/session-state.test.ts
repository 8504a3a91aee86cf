/** What a session hands to its next execution stays within what the server takes. */
import { describe, expect, it } from 'vitest';
import { KnownRunIds, MAX_EXACT_IDS } from '../../../../domain/session/known-run-ids.ts';
import {
  endWaiting,
  MAX_WAITING_BYTES,
  MAX_WAITING_RUNS,
  NO_RUNS,
  RECENT_RUNS,
  type RunBook,
  type RunOrder,
  takeOrder,
} from '../../../../domain/session/run-book.ts';
import { askSave, filesChange, saveFailed, spoolIsLost } from '../../../../domain/session/save-book.ts';
import {
  type CarriedSession,
  carriedBytes,
  fittingState,
  MAX_CARRIED_BYTES,
  newSession,
  withLoss,
  withoutVm,
  withRestored,
  withVm,
} from '../../../../domain/session/session-state.ts';

const AT = '2026-01-02T03:04:05.678Z';
/** Three bytes in UTF-8. */
const WIDE = '語'.repeat(5_000);
const SETTINGS = {
  image: { name: 'n'.repeat(64), digest: `sha256:${'0'.repeat(64)}` },
  resources: { vcpus: 64, memMib: 262_144, diskMib: 65_536 },
  egress: Array.from({ length: 100 }, () => 'e'.repeat(300)),
  tiers: { idleMs: 1, ttlMs: 1 },
};

/** Everything as large as its own limit allows. */
function largest(): CarriedSession {
  const known = new KnownRunIds();
  for (let n = 0; n < MAX_EXACT_IDS; n++) known.add(`run-${n}`);
  let runs: RunBook = NO_RUNS;
  const order = (n: number, sealed: string): RunOrder => ({
    ...{ id: `${n}`.padStart(128, 'i'), idSha256: '0'.repeat(64), bodyHash: '0'.repeat(64) },
    ...{
      bytes: Math.floor(MAX_WAITING_BYTES / MAX_WAITING_RUNS),
      body: { sealed },
      timeoutMs: 86_400_000,
      repeatable: true,
    },
  });
  for (let n = 0; n < RECENT_RUNS; n++) {
    const { id } = order(n, '');
    runs = takeOrder(runs, new KnownRunIds(), order(n, ''), AT);
    runs = endWaiting(runs, id, { as: 'failed', failure: 'F'.repeat(80), message: WIDE }, AT);
  }
  const sealed = 's'.repeat(Math.ceil((MAX_WAITING_BYTES / MAX_WAITING_RUNS) * 1.4));
  for (let n = 0; n < MAX_WAITING_RUNS; n++) {
    runs = takeOrder(runs, new KnownRunIds(), order(RECENT_RUNS + n, sealed), AT);
  }
  return { ...newSession(SETTINGS, 0), runs, knownRunIds: known.carried() };
}

describe('the carried state of a session', () => {
  it('fits at its largest, without the oldest of the runs that the store answers for', () => {
    const state = largest();
    const fitting = fittingState(state);
    expect(carriedBytes(fitting)).toBeLessThanOrEqual(MAX_CARRIED_BYTES);
    expect(fitting.runs.waiting).toEqual(state.runs.waiting);
    expect(fitting.runs.ended.length).toBeGreaterThan(0);
    expect(fitting.runs.ended.at(-1)).toEqual(state.runs.ended.at(-1));
    // What is dropped is the oldest: nothing is missing in between.
    expect(state.runs.ended.slice(-fitting.runs.ended.length)).toEqual(fitting.runs.ended);
  });

  it('stays as it is where it fits, and is refused where only what must be kept is too large', () => {
    const small = newSession(SETTINGS, 0);
    expect(fittingState(small)).toBe(small);
    expect(() => fittingState(small, 100)).toThrow(/can be carried on/);
    const [unrecorded] = largest().runs.ended;
    if (unrecorded === undefined) throw new Error('there is none');
    expect(() => fittingState({ ...largest(), unrecorded: [unrecorded] }, 500_000)).toThrow(/can be carried on/);
  });

  it('keeps no more of a failure than its first words', () => {
    const [run] = largest().runs.ended;
    expect(run?.outcome).toMatchObject({ message: '語'.repeat(500) });
  });
});

describe('a session whose VM is gone', () => {
  const runs = { ...NO_RUNS, turn: 5 };
  const saves = { asked: 7, unsavedRuns: 0, unsavedWrites: 0, stored: { turn: 4, n: 6 } };
  const lose = (state: CarriedSession) => withoutVm(withLoss(state, 'gone'));
  const lost = { afterTurn: 5, reason: 'gone', restoredTurn: 4 };
  const restored = ({ runs: book, saves: kept }: CarriedSession, turn: number, n: number) =>
    withRestored(book, kept ?? saves, { turn, n });

  it('has lost nothing where its last save is in the store after all', () => {
    const spooled = { turn: 5, n: 7 };
    const gone = lose({ ...newSession(SETTINGS, 0), runs, saves: { ...saves, spooled } });
    expect(gone.runs.lost).toEqual(lost);
    const back = restored(gone, 5, 7);
    expect(back.runs).not.toHaveProperty('lost');
    expect(back.saves.stored).toEqual(spooled);
    expect(restored(gone, 4, 6).runs.lost).toEqual(lost);
  });

  it('has lost nothing either where its spool was known to be lost before', () => {
    const lostSpool = spoolIsLost({ ...saves, spooled: { turn: 5, n: 7 } });
    const gone = lose({ ...newSession(SETTINGS, 0), runs, saves: lostSpool });
    expect(restored(gone, 5, 7).runs).not.toHaveProperty('lost');
    // The next save of the same files failed with its host.
    const { book, mark } = askSave(lostSpool, 5);
    const failed = lose({ ...newSession(SETTINGS, 0), runs, saves: saveFailed(book, lostSpool) });
    expect(mark.n).toBe(8);
    expect(restored(failed, 5, 7).runs).not.toHaveProperty('lost');
    const changed = lose({ ...newSession(SETTINGS, 0), runs, saves: filesChange(lostSpool) });
    expect(restored(changed, 5, 7).runs.lost).toEqual({ ...lost, restoredTurn: 5 });
  });

  it('has lost what came after its last save, of whichever turn that is', () => {
    const dirty = { ...saves, unsavedRuns: 1, spooled: { turn: 5, n: 7 } };
    const gone = lose({ ...newSession(SETTINGS, 0), runs: { ...runs, turn: 6 }, saves: dirty });
    expect(restored(gone, 5, 7).runs.lost).toEqual({ ...lost, afterTurn: 6, restoredTurn: 5 });
    // Its next VM is lost before it was there.
    expect(restored(lose(gone), 5, 7).runs.lost).toEqual({ ...lost, afterTurn: 6, restoredTurn: 5 });
  });

  it('has lost what it has lost, whatever later VMs save', () => {
    const whole = { ...saves, spooled: { turn: 5, n: 7 } };
    const gone = lose({ ...newSession(SETTINGS, 0), runs, saves: whole });
    // The next VM began with nothing, or with an older save, and what was written beside the runs is saved since.
    const place = { hostId: 'h1', epoch: 2, reservationId: 'r', boot: 1, vmId: 'v' };
    const there = withVm(gone, place);
    expect(restored(there, 5, 8).runs.lost).toEqual(lost);
    // A run that was told has ended since, and another one is lost.
    const { lost: _, ...told } = there.runs;
    const later = { ...saves, asked: 8, stored: { turn: 6, n: 8 }, unsavedRuns: 1 };
    const again = lose({ ...there, runs: { ...told, turn: 7 }, saves: later });
    expect(restored(again, 6, 8).runs.lost).toEqual({ ...lost, afterTurn: 7, restoredTurn: 6 });
  });

  it('has lost nothing that it never had, and remembers nothing of that', () => {
    const held = lose({ ...newSession(SETTINGS, 0), saves: { asked: 0, unsavedRuns: 0, unsavedWrites: 1 } });
    expect(held.runs).not.toHaveProperty('lost');
    expect(held.saves).not.toHaveProperty('atLoss');
  });

  it('has lost nothing where everything is known to be in the store', () => {
    const gone = lose({ ...newSession(SETTINGS, 0), runs, saves: { ...saves, stored: { turn: 5, n: 7 } } });
    expect(gone.runs).not.toHaveProperty('lost');
    expect(restored(gone, 5, 7).runs).toEqual(runs);
  });
});
