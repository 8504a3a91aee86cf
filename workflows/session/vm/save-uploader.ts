import { condition, sleep } from '@temporalio/workflow';
import { backoffMs } from '../../../domain/policies.ts';
import { isBehind, isLater } from '../../../domain/session/save-book.ts';
import { codedError } from '../../activity-verdict.ts';
import type { SaveProgress } from '../state/save-progress.ts';
import type { HotSession } from './hot-session.ts';
import type { SaveTrouble } from './save-trouble.ts';
import type { SavedSession } from './saved-session.ts';

/** Failed tries in a row after which operators are told. */
const TELL_AFTER = 3;

/** A later placement has the head, the host is gone for good, or what it spooled is damaged: no other try can succeed. */
const FINAL: readonly string[] = ['CONFLICT', 'HOST_LOST', 'SESSION_CORRUPT'];

/** Brings what hosts have spooled into the store, beside whatever the session does. */
export class SaveUploader {
  private readonly ctx: SavedSession;
  private readonly saves: SaveProgress;
  private readonly trouble: SaveTrouble;
  private isUploading = false;
  /** The place of the last save; its spool outlives the VM. */
  private last: HotSession['placed'] | undefined;

  constructor(ctx: SavedSession, saves: SaveProgress, trouble: SaveTrouble) {
    this.ctx = ctx;
    this.saves = saves;
    this.trouble = trouble;
  }

  /** Whether there are saves that nobody brings into the store now. */
  get isBehind(): boolean {
    return !this.isUploading && isBehind(this.saves.book);
  }

  savesAt(placed: HotSession['placed']): void {
    this.last = placed;
  }

  /** Begins to bring what is spooled into the store; does nothing where that goes on already. */
  start(): void {
    if (!this.isBehind) return;
    this.isUploading = true;
    void this.upload().finally(() => {
      this.isUploading = false;
    });
  }

  /** Waits, for a while, until what is spooled is in the store. */
  async untilStored(): Promise<void> {
    this.start();
    const isOver = () => !this.isUploading && !isBehind(this.saves.book);
    if (!isOver()) await condition(isOver, this.ctx.policies.save.lastUploadMs);
  }

  private async upload(): Promise<void> {
    const { backoffMs: firstMs, maxBackoffMs } = this.ctx.policies.save;
    for (let tries = 1; isBehind(this.saves.book); tries++) {
      const { place } = this;
      if (place === undefined) return;
      try {
        await this.uploadOnce(place);
      } catch (error) {
        // What an earlier place has had says nothing of the present one.
        if (place !== this.place) continue;
        const { code, message } = codedError(error);
        this.ctx.progress.note(`a save waits for the store: ${message}`);
        if (FINAL.includes(code)) return this.spoolIsLost(code, message);
        if (tries >= TELL_AFTER) this.trouble.tell();
        await sleep(backoffMs(tries, firstMs, maxBackoffMs), { summary: 'before a save is uploaded again' });
      }
    }
  }

  /** The place whose spool has what is not in the store yet. */
  private get place(): HotSession['placed'] | undefined {
    return this.ctx.hot?.placed ?? this.last;
  }

  private async uploadOnce(place: HotSession['placed']): Promise<void> {
    const { ctx, saves } = this;
    const { spooled } = saves.book;
    const call = { ...ctx.owner.call(place.epoch), name: ctx.name };
    const stored = await ctx.calls.onHost(place, () => place.host.uploadSaves(call));
    if (stored !== null) saves.stored(stored.mark);
    if (place !== this.place) return;
    if (spooled === undefined || !isLater(spooled, stored?.mark)) this.trouble.isOver();
    // One that was spooled meanwhile is brought next.
    else if (spooled === saves.book.spooled) this.spoolIsLost('NOT_FOUND', 'its host has no such save of it any more');
  }

  private spoolIsLost(code: string, reason: string): void {
    this.saves.spoolIsLost(reason);
    this.trouble.failed(code);
    this.trouble.tell();
  }
}
