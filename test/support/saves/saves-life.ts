/** A session that saves and saves, with a clock of its own, and what must be in its store at each moment. */
import { createHash } from 'node:crypto';
import { expect } from 'vitest';
import { type HeadSave, KEPT_SAVES } from '../../../contracts/store/save-documents.ts';
import type { HostSavesOptions } from '../../../host/saves/host-saves.ts';
import type { WorkspaceOf } from '../../../ports/saves.ts';
import type { FakeWorkspace } from './fake-workspaces.ts';
import { headIn, packsOf, restoredWalk, storedPacks } from './kept-saves.ts';
import { killedAfter } from './killed.ts';
import type { MemoryStore } from './memory-store.ts';
import { CONDEMNED_MS, createSavesHost, mark, NEVER, placed, type SavesHost } from './saves-fixture.ts';

export const MINUTE = 60_000;

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
  turn = 0;
  epoch = 1;
  private readonly named = new Map<string, NamedSave>();

  constructor(store: MemoryStore, hosts: readonly SavesHost[]) {
    this.store = store;
    store.nowMs = Date.parse('2026-01-01');
    this.hosts = hosts;
  }

  /** Of hosts and store, ms since 1970. */
  get nowMs(): number {
    return this.store.nowMs;
  }

  set nowMs(ms: number) {
    this.store.nowMs = ms;
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
    // It may have come as far as the head.
    await this.note();
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
    if (save === undefined || this.named.has(save.saveId)) return;
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

/** Two hosts; the store of the one that begins may be another one, around the same objects. */
export async function lifeOf(store: MemoryStore, first: HostSavesOptions['store'] = store): Promise<SavesLife> {
  let clock = () => 0;
  const hosts = [
    await createSavesHost(store, { clock: () => clock() }),
    await createSavesHost(first, { clock: () => clock() }),
  ];
  const life = new SavesLife(store, hosts);
  clock = () => life.nowMs;
  await life.host.saves.restore(life.of, NEVER);
  return life;
}

export const content = (n: number) => `content ${n} `.repeat(1 + (n % 12));

/** Bytes that take as many when packed, so that packs have little more than them. */
export function noise(n: number, bytes: number): Buffer {
  const parts = Array.from({ length: Math.ceil(bytes / 32) }, (_, i) =>
    createHash('sha256').update(`${n} ${i}`).digest(),
  );
  return Buffer.concat(parts).subarray(0, bytes);
}

/** So many saves, a minute apart: each replaces a file, changes one of a few, and adds one that stays for a while. */
export async function saveTimes(life: SavesLife, times: number): Promise<void> {
  for (let n = 0; n < times; n++) {
    life.nowMs += MINUTE;
    life.workspace.write('now', noise(life.turn, 1400));
    life.workspace.write(`changes/${life.turn % 5}`, content(life.turn));
    life.workspace.write(`stays/${life.turn}`, `for a while ${life.turn}`.repeat(9));
    life.workspace.remove(`stays/${life.turn - 8}`);
    await life.save();
  }
}

type HeldMethod = 'putBlob' | 'writeDocument' | 'delete';

/** The calls of a store that wait until they are let go on. */
export function heldStore(store: MemoryStore, isHeld: (method: HeldMethod, key: string) => boolean) {
  const reached = Promise.withResolvers<void>();
  const go = Promise.withResolvers<void>();
  const wait = async (method: HeldMethod, key: string) => {
    if (!isHeld(method, key)) return;
    reached.resolve();
    await go.promise;
  };
  const held: HostSavesOptions['store'] = {
    ...store,
    putBlob: async (key, source, options) => {
      await wait('putBlob', key);
      return await store.putBlob(key, source, options);
    },
    writeDocument: async (key, value, condition) => {
      await wait('writeDocument', key);
      return await store.writeDocument(key, value, condition);
    },
    delete: async (key) => {
      await wait('delete', key);
      await store.delete(key);
    },
  };
  return { held, reached: reached.promise, go: () => go.resolve() };
}
