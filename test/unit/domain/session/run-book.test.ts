import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isKilnError } from '../../../../domain/failures.ts';
import { KnownRunIds } from '../../../../domain/session/known-run-ids.ts';
import {
  endRunning,
  endWaiting,
  findRun,
  judgeOrder,
  MAX_WAITING_BYTES,
  MAX_WAITING_RUNS,
  NO_RUNS,
  RECENT_RUNS,
  type RunBook,
  type RunOrder,
  startNext,
  takeOrder,
} from '../../../../domain/session/run-book.ts';

const AT = '2026-01-02T03:04:05.678Z';
const VM = { hostId: 'h1', vmId: 'v-1-1' };
const EXITED = { as: 'finished', code: 0, signal: null, outputBytes: 0 } as const;

function order(id: string, more: Partial<RunOrder> = {}): RunOrder {
  const bodyHash = `hash of ${id}`;
  const body = { sealed: '' };
  return { id, idSha256: `sha of ${id}`, bodyHash, bytes: 10, body, timeoutMs: 1, repeatable: false, ...more };
}

const bookOf = (...ids: readonly string[]) =>
  ids.reduce((book, id) => takeOrder(book, new KnownRunIds(), order(id), AT), NO_RUNS);

/** Runs and ends everything that waits. */
function runAll(book: RunBook): RunBook {
  let now = book;
  while (now.waiting.length > 0) now = endRunning(startNext(now, VM, AT), EXITED, AT);
  return now;
}

describe('the runs of a session', () => {
  it('are taken once, run one at a time in order, and end once, whatever is called when', () => {
    const calls = fc.oneof(
      fc.record({ do: fc.constant('take' as const), id: fc.integer({ min: 0, max: 8 }) }),
      fc.record({ do: fc.constantFrom('start' as const, 'end' as const), id: fc.constant(0) }),
      fc.record({ do: fc.constant('cancel' as const), id: fc.integer({ min: 0, max: 8 }) }),
    );
    fc.assert(
      fc.property(fc.array(calls, { maxLength: 80 }), (steps) => {
        const known = new KnownRunIds();
        const taken: string[] = [];
        let book = NO_RUNS;
        for (const step of steps) {
          const id = `r${step.id}`;
          if (step.do === 'take') {
            if (!taken.includes(id)) taken.push(id);
            book = takeOrder(book, known, order(id), AT);
          } else if (step.do === 'start') book = startNext(book, VM, AT);
          else if (step.do === 'end') book = endRunning(book, EXITED, AT);
          else book = endWaiting(book, id, { as: 'cancelled', cause: 'asked' }, AT);
          const ids = [...book.ended, ...(book.running ? [book.running] : []), ...book.waiting].map((run) => run.id);
          expect(ids.toSorted()).toEqual(taken.toSorted());
          const turns = book.ended.flatMap(({ turn }) => turn ?? []);
          expect(turns).toEqual(turns.toSorted((a, b) => a - b));
        }
        const started = runAll(endRunning(book, EXITED, AT)).ended.filter(({ turn }) => turn !== undefined);
        expect(started.map(({ turn }) => turn)).toEqual(started.map((_, n) => n + 1));
      }),
    );
  });

  it('the same order again changes nothing, in whatever state the run is; another body is a CONFLICT', () => {
    const waits = bookOf('one', 'two');
    const runs = startNext(waits, VM, AT);
    for (const book of [waits, runs, endRunning(runs, EXITED, AT)]) {
      expect(takeOrder(book, new KnownRunIds(), order('one'), AT)).toBe(book);
      expect(() => judgeOrder(book, order('one', { bodyHash: 'another' }))).toThrow(/another body/);
    }
  });

  it('say how many are ahead', () => {
    expect(findRun(bookOf('one', 'two'), 'two')).toMatchObject({ state: 'waiting', ahead: 1 });
    expect(findRun(startNext(bookOf('one', 'two', 'three'), VM, AT), 'three')).toMatchObject({ ahead: 2 });
  });

  it('more than may wait are refused, by number and by size', () => {
    const full = bookOf(...Array.from({ length: MAX_WAITING_RUNS }, (_, n) => `r${n}`));
    const code = (book: RunBook, one: RunOrder) => {
      try {
        return judgeOrder(book, one);
      } catch (error) {
        return isKilnError(error) ? error.code : error;
      }
    };
    expect(code(full, order('more'))).toBe('QUEUE_FULL');
    expect(code(full, order('r3'))).toBe('known');
    expect(code(startNext(full, VM, AT), order('more'))).toBe('new');
    const large = takeOrder(NO_RUNS, new KnownRunIds(), order('large', { bytes: MAX_WAITING_BYTES - 1 }), AT);
    expect(code(large, order('one', { bytes: 1 }))).toBe('new');
    expect(code(large, order('two', { bytes: 2 }))).toBe('QUEUE_FULL');
  });

  it('an id of long ago is taken, with the note that the store has to be asked', () => {
    const known = new KnownRunIds();
    let book = NO_RUNS;
    for (let n = 0; n <= RECENT_RUNS; n++) book = runAll(takeOrder(book, known, order(`r${n}`), AT));
    expect(book.ended).toHaveLength(RECENT_RUNS);
    expect(takeOrder(book, known, order('r0'), AT).waiting).toMatchObject([{ id: 'r0', mayBeKnown: true }]);
    expect(takeOrder(book, known, order('new'), AT).waiting).toMatchObject([{ id: 'new', mayBeKnown: false }]);
    expect(judgeOrder(book, order('r1'))).toBe('known');
  });
});
