import { describe, expect, it } from 'vitest';
import {
  askSave,
  filesChange,
  isBehind,
  isDirty,
  isLater,
  isStored,
  NO_SAVES,
  runStarts,
  type SaveBook,
  saved,
  savedInWords,
  saveFailed,
  storedUpTo,
  vmIsGone,
} from '../../../../domain/session/save-book.ts';

const mark = (turn: number, n: number) => ({ turn, n });

/** A run, its save, and the save in the store. */
function stored(book: SaveBook, turn: number): SaveBook {
  const asked = askSave(runStarts(book), turn);
  return storedUpTo(saved(asked.book, asked.mark), asked.mark);
}

describe('what is saved of a session', () => {
  it('begins with nothing, and needs no save', () => {
    expect([isDirty(NO_SAVES), isBehind(NO_SAVES), isStored(NO_SAVES)]).toEqual([false, false, true]);
    expect(savedInWords(NO_SAVES)).toBe('nothing');
  });

  it('is the workspace after a run once the head names its save', () => {
    const ran = runStarts(NO_SAVES);
    expect([isDirty(ran), savedInWords(ran)]).toEqual([true, 'nothing yet']);
    const asked = askSave(ran, 1);
    expect(asked.mark).toEqual({ turn: 1, n: 1 });
    expect([isDirty(asked.book), isStored(asked.book)]).toEqual([false, false]);
    const spooled = saved(asked.book, asked.mark);
    expect([isBehind(spooled), isStored(spooled)]).toEqual([true, false]);
    const whole = storedUpTo(spooled, asked.mark);
    expect([isBehind(whole), isStored(whole), savedInWords(whole)]).toEqual([false, true, 'up to turn 1']);
  });

  it('is not what was written while the save was made', () => {
    const asked = askSave(filesChange(NO_SAVES), 0);
    const during = filesChange(asked.book);
    const whole = storedUpTo(saved(during, asked.mark), asked.mark);
    expect([isDirty(whole), isStored(whole)]).toEqual([true, false]);
    expect(savedInWords(whole)).toBe('up to turn 0, what came after it not yet');
    expect(askSave(whole, 0).mark).toEqual({ turn: 0, n: 2 });
  });

  it('is not what a failed save was to have', () => {
    const before = filesChange(runStarts(runStarts(NO_SAVES)));
    const { book } = askSave(before, 2);
    const failed = saveFailed(runStarts(book), before);
    expect(failed).toEqual({ asked: 1, unsavedRuns: 3, unsavedWrites: 1 });
    expect(savedInWords(saveFailed(book, before, 'too old'))).toBe('cannot be saved: too old');
  });

  it('never goes back to an older save', () => {
    const book = stored(stored(NO_SAVES, 1), 2);
    expect(storedUpTo(book, mark(1, 1)).stored).toEqual(mark(2, 2));
    expect(isLater(mark(2, 1), mark(1, 9))).toBe(true);
    expect(isLater(mark(1, 2), mark(1, 1))).toBe(true);
    expect(isLater(mark(1, 1), mark(1, 1))).toBe(false);
    expect(isLater(mark(0, 1), undefined)).toBe(true);
  });

  it('is what the store has, once the VM is gone; names of saves are never used twice', () => {
    const book = runStarts(stored(NO_SAVES, 1));
    const asked = askSave(book, 2);
    const gone = vmIsGone(saved(filesChange({ ...asked.book, cannot: 'too old' }), asked.mark));
    expect(gone).toEqual({ asked: 2, unsavedRuns: 0, unsavedWrites: 0, stored: mark(1, 1) });
    expect(askSave(gone, 2).mark).toEqual(mark(2, 3));
  });
});
