import { condition, sleep } from '@temporalio/workflow';
import { carriedBytes, MAX_CARRIED_BYTES } from '../../domain/session/session-state.ts';
import type { SessionContext } from './session-context.ts';

/** Ends that are written by one call of the activity. */
const BATCH = 50;

/** Writes the ends of runs into the store, in the background: no caller waits for the store. */
export class RunRecorder {
  private readonly ctx: SessionContext;
  private isWriting = false;

  constructor(ctx: SessionContext) {
    this.ctx = ctx;
  }

  /** Whether there are ends that nobody writes now. */
  get isBehind(): boolean {
    return !this.isWriting && this.ctx.state.state.unrecorded.length > 0;
  }

  /** Begins to write what is to be written; does nothing where that goes on already. */
  start(): void {
    if (!this.isBehind) return;
    this.isWriting = true;
    void this.write();
  }

  /** Waits until what the next execution gets is small enough. */
  async untilItFits(): Promise<void> {
    const { state } = this.ctx;
    await condition(() => {
      this.start();
      return !this.isWriting || carriedBytes(state.carried()) < MAX_CARRIED_BYTES / 2;
    });
  }

  async untilAllIsRecorded(): Promise<void> {
    const { state } = this.ctx;
    await condition(() => {
      this.start();
      return state.state.unrecorded.length === 0;
    });
  }

  private async write(): Promise<void> {
    const { state, books, name, policies } = this.ctx;
    try {
      while (state.state.unrecorded.length > 0) {
        const runs = state.state.unrecorded.slice(0, BATCH);
        await books.recordRuns({ name, runs });
        state.recorded(runs);
      }
    } catch (error) {
      // The activity is tried until the store answers: it fails only for a defect, which a new version may mend.
      this.ctx.progress.note(`ends of runs: ${String(error)}`);
      await sleep(policies.control.scheduleToCloseMs, { summary: 'before ends of runs are written again' });
    } finally {
      this.isWriting = false;
    }
  }
}
