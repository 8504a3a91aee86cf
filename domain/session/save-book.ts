/** What of a session's workspace is saved, as its workflow knows it. Pure; the workflow is the only writer. */

import { defined } from '../defined.ts';

/** One save: of what the workspace was after a turn. `n` counts all saves that the session has asked for. */
export interface SaveMark {
  readonly turn: number;
  readonly n: number;
}

export interface SaveBook {
  /** Saves asked for so far, over all placements. */
  readonly asked: number;
  /** Runs that may have changed the workspace since the last save. */
  readonly unsavedRuns: number;
  /** Times that files were written beside the runs since the last save. */
  readonly unsavedWrites: number;
  /** The save that is being made. */
  readonly saving?: SaveMark;
  /** The newest save that is whole on the host of the present placement. */
  readonly spooled?: SaveMark;
  /** What the head in the store names, as far as it is known here. */
  readonly stored?: SaveMark;
  /** `n` of a save that has everything, although the workspace counts as not saved since its spool was lost. */
  readonly wholeAt?: number;
  /** Its VM is lost, and no other is there yet. `wholeAt`: the save that had everything; absent: none. */
  readonly atLoss?: { readonly wholeAt?: number };
  /** Why the guest of the present VM cannot be saved, where it never can. */
  readonly cannot?: string;
}

export const NO_SAVES: SaveBook = { asked: 0, unsavedRuns: 0, unsavedWrites: 0 };

/** @returns what a new VM would find, in words */
export function savedInWords(book: SaveBook): string {
  const { stored, cannot } = book;
  if (cannot !== undefined) return `cannot be saved: ${cannot}`;
  const newer = !isStored(book);
  const more = newer ? ', what came after it not yet' : '';
  return stored === undefined ? `nothing${newer ? ' yet' : ''}` : `up to turn ${stored.turn}${more}`;
}

/** Whether `a` is of a later state of the workspace than `b`. */
export function isLater(a: SaveMark, b: SaveMark | undefined): boolean {
  return b === undefined || a.turn > b.turn || (a.turn === b.turn && a.n > b.n);
}

/** Whether the workspace may differ from its newest save. */
export function isDirty({ unsavedRuns, unsavedWrites }: SaveBook): boolean {
  return unsavedRuns > 0 || unsavedWrites > 0;
}

/** @returns `n` of a save that has everything, wherever it is; undefined where the last changes are in none */
export function wholeSave(book: SaveBook): number | undefined {
  return book.wholeAt ?? (isDirty(book) ? undefined : book.asked);
}

/** Whether a new VM would find everything in the store. */
export function isStored(book: SaveBook): boolean {
  return !isDirty(book) && !isBehind(book) && book.saving === undefined;
}

/** Whether there was anything to save, and a new VM would find all of it in the store. */
export function hasAllStored(book: SaveBook | undefined): boolean {
  return book?.stored !== undefined && isStored(book);
}

/** Whether there is a save that the store does not have yet. */
export function isBehind({ spooled, stored }: SaveBook): boolean {
  return spooled !== undefined && isLater(spooled, stored);
}

export function runStarts({ wholeAt: _, ...book }: SaveBook): SaveBook {
  return { ...book, unsavedRuns: book.unsavedRuns + 1 };
}

export function filesChange({ wholeAt: _, ...book }: SaveBook): SaveBook {
  return { ...book, unsavedWrites: book.unsavedWrites + 1 };
}

/** Mints the next save. What changes from now on is not in it for sure. @returns the book, and the mark of the save */
export function askSave(book: SaveBook, turn: number): { readonly book: SaveBook; readonly mark: SaveMark } {
  const mark = { turn, n: book.asked + 1 };
  return { book: { ...book, asked: mark.n, unsavedRuns: 0, unsavedWrites: 0, saving: mark }, mark };
}

/** @param before the book as it was when the save was asked for: what was unsaved then still is */
export function saveFailed({ saving, ...book }: SaveBook, before: SaveBook, cannot?: string): SaveBook {
  return {
    ...book,
    unsavedRuns: book.unsavedRuns + before.unsavedRuns,
    unsavedWrites: book.unsavedWrites + before.unsavedWrites,
    ...(cannot === undefined ? {} : { cannot }),
  };
}

export function saved({ saving, ...book }: SaveBook, spooled: SaveMark): SaveBook {
  return { ...book, spooled };
}

/**
 * What the host had spooled will never be in the store: the workspace counts as not saved since then.
 */
export function spoolIsLost({ spooled, ...book }: SaveBook): SaveBook {
  if (spooled === undefined) return book;
  return { ...runStarts(book), ...defined({ wholeAt: wholeSave(book) }) };
}

/** The head names this save, or another one that is later. */
export function storedUpTo(book: SaveBook, stored: SaveMark): SaveBook {
  return isLater(stored, book.stored) ? { ...book, stored } : book;
}

/** The VM is gone: what is in the store is all there is. */
export function vmIsGone({ asked, stored, atLoss }: SaveBook): SaveBook {
  return { asked, unsavedRuns: 0, unsavedWrites: 0, ...defined({ stored, atLoss }) };
}

/** Another VM is there, with what was restored. */
export function vmIsThere({ atLoss: _, ...book }: SaveBook): SaveBook {
  return book;
}
