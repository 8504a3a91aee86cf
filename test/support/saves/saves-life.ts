/** A session that saves and saves, with a clock of its own, and what must be in its store at each moment. */
import { expect } from 'vitest';
import { type HeadSave, KEPT_SAVES } from '../../../contracts/store/save-documents.ts';
import type { WorkspaceOf } from '../../../ports/saves.ts';
import type { FakeWorkspace } from './fake-workspaces.ts';
import { headIn, packsOf, restoredWalk, storedPacks } from './kept-saves.ts';
import { killedAfter } from './killed.ts';
import type { MemoryStore } from './memory-store.ts';
import { CONDEMNED_MS, mark, NEVER, placed, type SavesHost } from './saves-fixture.ts';

/** A save that the head has named. */
interface NamedSave {
  readonly save: HeadSave;
  readonly packs: readonly string[];
  readonly walk: readonly string[];
  /** When the head named it no more. */
  droppedAt?: number;
}

export class SavesLife {
  readonly store: MemoryStore;
  readonly hosts: readonly SavesHost[];
  nowMs = Date.parse('2026-01-01');
  turn = 0;
  epoch = 1;
  private readonly named = new Map<string, NamedSave>();

  constructor(store: MemoryStore, makeHosts: (clock: () => number) => readonly SavesHost[]) {
    this.store = store;
    this.hosts = makeHosts(() => this.nowMs);
  }

  get host(): SavesHost {
    const host = this.hosts[this.epoch % this.hosts.length];
    if (host === undefined) throw new Error('no host');
    return host;
  }

  get of(): WorkspaceOf {
    return placed(this.epoch);
  }

  get workspace(): FakeWorkspace {
    return this.host.workspaces.of(this.of.vmId);
  }

  /** Another placement, on the next host. */
  async move(): Promise<void> {
    this.epoch += 1;
    await this.host.again().restore(this.of, NEVER);
  }

  snapshot(): Promise<unknown> {
    this.turn += 1;
    return this.host.again().snapshot(this.of, mark(this.turn), NEVER);
  }

  /** Saves a turn. @param kill steps after which the process of the upload ends; another one does it again */
  async save(kill?: number): Promise<void> {
    await this.snapshot();
    if (kill !== undefined) await this.killedUpload(kill);
    await this.upload();
  }

  /** @returns undefined where the process was killed after so many steps */
  async killedUpload(steps: number): Promise<unknown> {
    const done = await killedAfter(steps, this.store, () => this.host.again().upload(this.of, NEVER));
    await this.check();
    return done;
  }

  async upload(): Promise<void> {
    await this.host.again().upload(this.of, NEVER);
    await this.note();
    await this.check();
  }

  /** What the head names now is noted; it must be what the workspace is. */
  private async note(): Promise<void> {
    const { save } = await headIn(this.store);
    if (save === undefined) throw new Error('the head names no save');
    const packs = await packsOf(this.store, save);
    const before = [...this.named.values()].at(-1);
    // The fact that all of this rests on.
    const isNew = (name: string) => !before?.packs.includes(name);
    const known = new Set([...this.named.values()].flatMap((each) => each.packs));
    for (const name of packs.filter(isNew)) expect(known).not.toContain(name);
    this.named.set(save.saveId, { save, packs, walk: this.workspace.walk() });
    const kept = new Set([...this.named.keys()].slice(-KEPT_SAVES));
    for (const [saveId, each] of this.named) if (!kept.has(saveId)) each.droppedAt ??= this.nowMs;
  }

  /** Whatever is kept, or was dropped a short time ago, is whole. */
  async check(): Promise<void> {
    const { kept } = await headIn(this.store);
    for (const save of kept) await packsOf(this.store, save);
    for (const { save, droppedAt } of this.named.values()) {
      if (droppedAt === undefined || this.nowMs - droppedAt < CONDEMNED_MS) await packsOf(this.store, save);
    }
  }

  /** After an upload: what was dropped long enough ago is gone, but for what is needed. */
  async checkGone(): Promise<void> {
    const isStanding = ({ droppedAt }: NamedSave) => droppedAt === undefined || this.nowMs - droppedAt < CONDEMNED_MS;
    const saves = [...this.named.values()];
    const needed = new Set(saves.filter(isStanding).flatMap(({ packs }) => packs));
    const over = saves.filter((each) => !isStanding(each));
    const stored = new Set(storedPacks(this.store));
    const left = over.flatMap(({ packs }) => packs).filter((name) => stored.has(name) && !needed.has(name));
    expect(left).toEqual([]);
    for (const { save } of over) {
      expect([...this.store.objects.keys()].some((key) => key.endsWith(`trees/${save.saveId}.json`))).toBe(false);
    }
  }

  /** Every kept save is what the workspace was. */
  async checkContents(): Promise<void> {
    const { kept } = await headIn(this.store);
    expect(kept.length).toBe(Math.min(this.named.size, KEPT_SAVES));
    for (const save of kept) expect(await restoredWalk(this.store, save)).toEqual(this.named.get(save.saveId)?.walk);
  }

  /** The oldest kept save is what the workspace was. */
  async checkOldest(): Promise<void> {
    const [save] = (await headIn(this.store)).kept;
    if (save === undefined) throw new Error('no save is kept');
    expect(await restoredWalk(this.store, save)).toEqual(this.named.get(save.saveId)?.walk);
  }
}
