import { patched } from '@temporalio/workflow';
import {
  askSave,
  type SaveBook,
  type SaveMark,
  saved,
  saveFailed,
  spoolIsLost,
  storedUpTo,
} from '../../../domain/session/save-book.ts';
import { withRestored } from '../../../domain/session/session-state.ts';
import type { SessionProgress } from './session-progress.ts';

/** What happens to the saves of a session, in its state. */
export class SaveProgress {
  private readonly state: SessionProgress;

  constructor(state: SessionProgress) {
    this.state = state;
  }

  get book(): SaveBook {
    return this.state.saves;
  }

  /** @returns the mark of the next save, of what the workspace is now */
  ask(): SaveMark {
    const { book, mark } = askSave(this.book, this.state.runs.turn);
    this.state.changeSaves(book);
    return mark;
  }

  spooled(mark: SaveMark): void {
    this.state.changeSaves(saved(this.book, mark));
  }

  /** @param before the saves as they were when this one was asked for */
  failed(before: SaveBook, { turn }: SaveMark, { code, message }: { code: string; message: string }): void {
    // An agent that cannot save will not learn it; any other failure may pass.
    this.state.changeSaves(saveFailed(this.book, before, code === 'UNSUPPORTED' ? message : undefined));
    this.state.note({ of: 'save', turn, to: 'failed' }, { code: 'SAVE_FAILED', detail: `${code}: ${message}` });
  }

  /** It was ended before it was whole, for no fault of its own. */
  givenUp(before: SaveBook): void {
    this.state.changeSaves(saveFailed(this.book, before));
  }

  stored(mark: SaveMark): void {
    this.state.changeSaves(storedUpTo(this.book, mark));
  }

  /** What the host had spooled will never be in the store. */
  spoolIsLost(reason: string): void {
    const { spooled } = this.book;
    if (spooled === undefined) return;
    this.state.changeSaves(spoolIsLost(this.book));
    this.state.note({ of: 'save', turn: spooled.turn, to: 'failed' }, { code: 'SAVE_FAILED', detail: reason });
  }

  /** The workspace of a new VM is as it was saved. */
  restored(mark: SaveMark): void {
    const { runs, saves } = withRestored(this.state.runs, this.book, mark);
    if (patched('tell-what-is-restored')) this.state.changeSaves(saves, runs);
    else this.stored(mark);
    this.state.note({ of: 'save', turn: mark.turn, to: 'restored' }, { code: 'RESTORED' });
  }
}
