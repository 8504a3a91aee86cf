import { CancellationScope, condition, patched } from '@temporalio/workflow';
import { isDirty, type SaveMark } from '../../../domain/session/save-book.ts';
import { codedError } from '../../activity-verdict.ts';
import { SaveProgress } from '../state/save-progress.ts';
import type { HotSession } from './hot-session.ts';
import { SaveTrouble } from './save-trouble.ts';
import { SaveUploader } from './save-uploader.ts';
import type { SavedSession } from './saved-session.ts';
import { goneBecause, saysVmEnded } from './vm-gone.ts';

/** Saves the workspace after runs: first on its host, where the guest has to work for it, then into the store. */
export class WorkspaceSaver {
  private readonly ctx: SavedSession;
  private readonly saves: SaveProgress;
  /** False in histories of before there were saves. */
  private readonly isOn: boolean;
  private readonly trouble: SaveTrouble;
  private readonly uploader: SaveUploader;
  /** After a failed save the next one waits for a change, or until it is tried again. */
  private failedAt: string | undefined;
  /** After a save that was given up for a run, that run comes first. */
  private gaveWayAt: string | undefined;
  /** Saves in a row that were given up for a run. */
  private givenUp = 0;

  constructor(ctx: SavedSession) {
    this.ctx = ctx;
    this.saves = new SaveProgress(ctx.state);
    this.isOn = patched('workspace-saves');
    this.trouble = new SaveTrouble(ctx.policies.save);
    this.uploader = new SaveUploader(ctx, this.saves, this.trouble);
  }

  /** Whether a new VM gets its files from a save. */
  get hasSave(): boolean {
    return this.isOn && this.saves.book.stored !== undefined;
  }

  /** Whether the guest runs and may have what no save has. */
  get mustSave(): boolean {
    return this.ctx.isUsable && this.isUnsaved && (this.failedAt !== this.now || Date.now() >= this.trouble.retryAt);
  }

  /** When a session at rest is to be woken for what no save has, ms since 1970; undefined where there is no such thing. */
  get saveAgainAt(): number | undefined {
    return this.ctx.state.tier === 'warm' && this.isUnsaved ? this.trouble.retryAt : undefined;
  }

  /** Whether the workspace has what no save has, and could be saved. */
  private get isUnsaved(): boolean {
    const { book } = this.saves;
    return this.isOn && isDirty(book) && book.cannot === undefined;
  }

  /** Whether not even a run that waits may come first: runs without a pause would never be saved. */
  get mustSaveFirst(): boolean {
    const { unsavedRuns } = this.saves.book;
    return this.mustSave && unsavedRuns >= this.ctx.policies.save.runsBetween && this.gaveWayAt !== this.now;
  }

  /** Whether there are saves that nobody brings into the store now. */
  get isBehind(): boolean {
    return this.isOn && this.uploader.isBehind;
  }

  /**
   * Takes the workspace into the spool of its host. A failure is noted, and nothing more. One that takes long is given up
   * for a run that waits: the next one has what it was to have.
   */
  async save({ placed, vmId }: HotSession): Promise<void> {
    const { ctx, saves } = this;
    const before = saves.book;
    const at = this.now;
    const mark = saves.ask();
    this.uploader.savesAt(placed);
    try {
      const call = { ...ctx.owner.call(placed.epoch), vmId, name: ctx.name, mark };
      const isGivenUp = await this.unlessARunWaits(() =>
        ctx.calls.onHost(placed, () => placed.host.saveWorkspace(call)),
      );
      if (isGivenUp) {
        saves.givenUp(before);
        this.gaveWayAt = this.now;
        return;
      }
      this.givenUp = 0;
      saves.spooled(mark);
      this.uploader.start();
    } catch (error) {
      const { code, message } = codedError(error);
      saves.failed(before, mark, { code, message });
      this.failedAt = at;
      this.trouble.failed(code);
      if (saysVmEnded(code)) ctx.noteGone(vmId, goneBecause(code, message));
      else this.trouble.tell();
    }
  }

  /** The VM could not be had for a save. */
  cannotWake(code: string): void {
    this.trouble.failed(code);
  }

  /** @returns whether the work was given up. @throws what the work throws */
  private async unlessARunWaits(work: () => Promise<unknown>): Promise<boolean> {
    const { giveUpMs, runsBetween } = this.ctx.policies.save;
    const begun = Date.now();
    const scope = new CancellationScope();
    let isOver = false;
    const done = scope.run(work).finally(() => {
      isOver = true;
    });
    // It is awaited below, in every case.
    done.catch(() => undefined);
    // A session that is never at rest would never be saved.
    if (this.givenUp < runsBetween - 1) {
      await condition(() => isOver || this.ctx.state.runs.waiting.length > 0);
      const leftMs = begun + giveUpMs - Date.now();
      if (!isOver && leftMs > 0) await condition(() => isOver, leftMs);
      if (!isOver) {
        this.givenUp += 1;
        scope.cancel();
        return done.then(
          () => false,
          () => true,
        );
      }
    }
    await done;
    return false;
  }

  /** The workspace of a new VM is as it was saved. */
  noteRestored(mark: SaveMark): void {
    this.saves.restored(mark);
  }

  /** Begins to bring what is spooled into the store; does nothing where that goes on already. */
  start(): void {
    if (this.isOn) this.uploader.start();
  }

  /** Waits, for a while, until what is spooled is in the store: its host may soon be no place for it any more. */
  async lastUpload(): Promise<void> {
    if (this.isOn) await this.uploader.untilStored();
  }

  /** What is there to be saved; another one is worth another try. */
  private get now(): string {
    const { unsavedRuns, unsavedWrites } = this.saves.book;
    return `${this.ctx.state.runs.turn} ${unsavedRuns} ${unsavedWrites}`;
  }
}
