import { defineSearchAttributeKey } from '@temporalio/common';
import { CancellationScope, condition, patched, sleep, workflowInfo } from '@temporalio/workflow';
import type { SessionName } from '../../../domain/names.ts';
import { backoffMs, type SessionPolicies } from '../../../domain/policies.ts';
import { isBehind, isDirty, type SaveMark } from '../../../domain/session/save-book.ts';
import { codedError } from '../../activity-verdict.ts';
import type { HostCalls } from '../../placed/host-calls.ts';
import type { PlacedOwner, PlacedProgress } from '../../placed/placed-owner.ts';
import { setAttributes } from '../../search-attributes.ts';
import { SaveProgress } from '../state/save-progress.ts';
import type { SessionProgress } from '../state/session-progress.ts';
import type { HotSession } from './hot-session.ts';
import { saysVmEnded } from './vm-gone.ts';

const ATTENTION = defineSearchAttributeKey('KilnAttention', 'KEYWORD');
const SAVE_FAILED = 'SAVE_FAILED';
/** Failed tries in a row after which operators are told. */
const TELL_AFTER = 3;

/** A later placement has the head, the host is gone for good, or what it spooled is damaged: no other try can succeed. */
const FINAL: readonly string[] = ['CONFLICT', 'HOST_LOST', 'SESSION_CORRUPT'];

/** What the saver needs of the context of its session. */
interface SavedSession {
  readonly name: SessionName;
  readonly policies: Pick<SessionPolicies, 'save'>;
  readonly state: SessionProgress;
  readonly calls: HostCalls;
  readonly owner: PlacedOwner;
  readonly progress: PlacedProgress;
  readonly hot: HotSession | undefined;
  /** Whether the guest runs, and goes on running. */
  readonly isUsable: boolean;
  noteVmGone(vmId: string, reason: string): void;
}

/** Saves the workspace after runs: first on its host, where the guest has to work for it, then into the store. */
export class WorkspaceSaver {
  private readonly ctx: SavedSession;
  private readonly saves: SaveProgress;
  /** False in histories of before there were saves. */
  private readonly isOn: boolean;
  private isUploading = false;
  /** The place whose spool has what is to be uploaded. */
  private from: HotSession['placed'] | undefined;
  /** After a failed save the next one waits for a change. */
  private failedAt: string | undefined;
  /** After a save that was given up for a run, that run comes first. */
  private gaveWayAt: string | undefined;
  /** Saves in a row that were given up for a run. */
  private givenUp = 0;
  private needsAttention: boolean;

  constructor(ctx: SavedSession) {
    this.ctx = ctx;
    this.saves = new SaveProgress(ctx.state);
    this.isOn = patched('workspace-saves');
    // Attributes go on with the next execution.
    this.needsAttention = workflowInfo().typedSearchAttributes.get(ATTENTION) === SAVE_FAILED;
  }

  /** Whether a new VM gets its files from a save. */
  get hasSave(): boolean {
    return this.isOn && this.saves.book.stored !== undefined;
  }

  /** Whether the guest runs and may have what no save has. */
  get mustSave(): boolean {
    const { book } = this.saves;
    return this.isOn && this.ctx.isUsable && isDirty(book) && book.cannot === undefined && this.failedAt !== this.now;
  }

  /** Whether not even a run that waits may come first: runs without a pause would never be saved. */
  get mustSaveFirst(): boolean {
    const { unsavedRuns } = this.saves.book;
    return this.mustSave && unsavedRuns >= this.ctx.policies.save.runsBetween && this.gaveWayAt !== this.now;
  }

  /** Whether there are saves that nobody brings into the store now. */
  get isBehind(): boolean {
    return this.isOn && !this.isUploading && isBehind(this.saves.book);
  }

  /**
   * Takes the workspace into the spool of its host. A failure is noted, and nothing more. One that takes long is given up
   * for a run that waits: the next one has what it was to have.
   */
  async save({ placed, vmId }: HotSession): Promise<void> {
    const { ctx, saves } = this;
    const before = saves.book;
    const mark = saves.ask();
    this.from = placed;
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
      this.start();
    } catch (error) {
      const { code, message } = codedError(error);
      saves.failed(before, mark, { code, message });
      this.failedAt = this.now;
      if (saysVmEnded(code)) ctx.noteVmGone(vmId, message);
      else this.tell();
    }
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
    if (!this.isBehind) return;
    this.isUploading = true;
    void this.upload().finally(() => {
      this.isUploading = false;
    });
  }

  /** Waits, for a while, until what is spooled is in the store: its host may soon be no place for it any more. */
  async lastUpload(): Promise<void> {
    if (!this.isOn) return;
    this.start();
    const isOver = () => !this.isUploading && !isBehind(this.saves.book);
    if (!isOver()) await condition(isOver, this.ctx.policies.save.lastUploadMs);
  }

  private async upload(): Promise<void> {
    const { saves } = this;
    const { policies } = this.ctx;
    for (let tries = 1; isBehind(saves.book); tries++) {
      try {
        if (await this.uploadOnce()) continue;
        return;
      } catch (error) {
        const { code, message } = codedError(error);
        this.ctx.progress.note(`a save waits for the store: ${message}`);
        if (FINAL.includes(code)) return saves.spoolIsLost(message);
        if (tries >= TELL_AFTER) this.tell();
        const { backoffMs: firstMs, maxBackoffMs } = policies.save;
        await sleep(backoffMs(tries, firstMs, maxBackoffMs), { summary: 'before a save is uploaded again' });
      }
    }
  }

  /** @returns false where there is no place to upload from */
  private async uploadOnce(): Promise<boolean> {
    const { ctx } = this;
    const placed = ctx.hot?.placed ?? this.from;
    if (placed === undefined) return false;
    const call = { ...ctx.owner.call(placed.epoch), name: ctx.name };
    const stored = await ctx.calls.onHost(placed, () => placed.host.uploadSaves(call));
    if (stored === null) {
      this.saves.spoolIsLost('its host has no save of it any more');
      return false;
    }
    this.saves.stored(stored.mark);
    this.wellAgain();
    return true;
  }

  /** What is there to be saved; another one is worth another try. */
  private get now(): string {
    const { unsavedRuns, filesWritten } = this.saves.book;
    return `${this.ctx.state.runs.turn} ${unsavedRuns} ${filesWritten === true}`;
  }

  private tell(): void {
    if (this.needsAttention) return;
    this.needsAttention = true;
    setAttributes({ KilnAttention: SAVE_FAILED });
  }

  private wellAgain(): void {
    if (!this.needsAttention) return;
    this.needsAttention = false;
    setAttributes({ KilnAttention: null });
  }
}
