/** What older saves needed leaves the store, and nothing else does. */
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { repetitions } from '../../../../config/test-environment.ts';
import { KEPT_SAVES } from '../../../../contracts/store/save-documents.ts';
import { KilnError } from '../../../../domain/failures.ts';
import { storeKeys } from '../../../../domain/names.ts';
import { headIn, packsOf, putHead, storedPacks } from '../../../support/saves/kept-saves.ts';
import { Killed } from '../../../support/saves/killed.ts';
import { createMemoryStore, type MemoryStore } from '../../../support/saves/memory-store.ts';
import { createSavesHost, mark, NEVER, placed, type SavesHost, SESSION } from '../../../support/saves/saves-fixture.ts';
import {
  content,
  heldStore,
  lifeOf,
  MINUTE,
  noise,
  type SavesLife,
  saveTimes,
} from '../../../support/saves/saves-life.ts';

const hosts: SavesHost[] = [];
afterEach(async () => {
  for (const host of hosts.splice(0)) await host.remove();
});

async function begin(store: MemoryStore, first?: Parameters<typeof lifeOf>[1]): Promise<SavesLife> {
  const life = await lifeOf(store, first);
  hosts.push(...life.hosts);
  return life;
}

const deletes = (store: MemoryStore): string[] => {
  const keys: string[] = [];
  store.onCall = ({ method, key, at }) => {
    if (method === 'delete' && at === 'after') keys.push(key);
  };
  return keys;
};

const step = fc.record({
  edits: fc.array(fc.tuple(fc.constantFrom('a', 'b/c', 'b/d', 'e', 'f/g/h', 'i'), fc.nat(60)), { maxLength: 4 }),
  removed: fc.option(fc.constantFrom('a', 'b', 'b/c', 'f'), { nil: undefined, freq: 4 }),
  minutes: fc.integer({ min: 0, max: 5 }),
  kill: fc.option(fc.nat(45), { nil: undefined, freq: 2 }),
  isMoved: fc.nat(9).map((n) => n === 0),
});

describe('a life of many saves', () => {
  it('keeps what kept saves need, and nothing for ever', { timeout: 300_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 32, maxLength: 44 }), async (steps) => {
        const life = await begin(createMemoryStore());
        for (const { edits, removed, minutes, kill, isMoved } of steps) {
          life.nowMs += minutes * MINUTE;
          if (isMoved) await life.move();
          for (const [path, n] of edits) life.workspace.write(path, content(n));
          if (removed !== undefined) life.workspace.remove(removed);
          life.workspace.write('turn', `${life.turn}`);
          await life.save(kill);
          await life.checkGone();
          if (life.turn > KEPT_SAVES) await life.checkOldest();
        }
        await life.checkContents();
      }),
      { numRuns: repetitions({ usually: 2, whole: 60 }) },
    );
  });

  it('deletes packs and trees, ten minutes after their save was dropped', async () => {
    const store = createMemoryStore();
    const life = await begin(store);
    await saveTimes(life, KEPT_SAVES);
    const [first] = (await headIn(store)).kept;
    expect(await headIn(store)).not.toHaveProperty('condemned');
    const keys = deletes(store);
    await saveTimes(life, 10);
    expect(keys).toEqual([]);
    expect((await headIn(store)).condemned?.length).toBe(10);
    await saveTimes(life, 1);
    expect(keys.at(-1)).toBe(storeKeys.saveTree(SESSION, first?.saveId ?? ''));
    expect(keys.length).toBeGreaterThan(1);
    expect(keys.slice(0, -1).every((key) => key.includes('/packs/'))).toBe(true);
    await life.checkGone();
    await life.checkContents();
  });

  it('does not grow', async () => {
    const store = createMemoryStore();
    const life = await begin(store);
    await saveTimes(life, 45);
    const before = store.objects.size;
    await saveTimes(life, 30);
    expect(Math.abs(store.objects.size - before)).toBeLessThan(10);
  });

  it('asks the store for nothing more at a save without garbage', async () => {
    const store = createMemoryStore();
    const life = await begin(store);
    await saveTimes(life, 3);
    const calls: string[] = [];
    await life.snapshot();
    store.onCall = ({ method, at }) => void (at === 'after' && calls.push(method));
    await life.host.again().upload(life.of, NEVER);
    expect(calls.filter((method) => method !== 'putBlob')).toEqual(['readDocument', 'readDocument', 'writeDocument']);
  });

  it('keeps a chunk of the oldest save that a file still has, and makes one anew that came back', async () => {
    const store = createMemoryStore();
    const life = await begin(store);
    const [kept, back] = ['from the beginning '.repeat(40), 'goes and comes '.repeat(40)];
    life.workspace.write('kept', kept);
    life.workspace.write('back', back);
    await life.save();
    life.workspace.remove('back');
    await saveTimes(life, KEPT_SAVES - 1);
    // This save drops the first one, and is made of chunks of it.
    life.nowMs += MINUTE;
    life.workspace.write('copy', kept);
    life.workspace.write('back', back);
    await life.save();
    expect((await headIn(store)).condemned?.[0]?.packs.length).toBeGreaterThan(0);
    await saveTimes(life, 13);
    await life.checkGone();
    await life.checkContents();
    expect(life.workspace.read('copy')?.toString()).toBe(kept);
  });
});

describe('a process that ends', () => {
  it('between any two steps of an upload that deletes leaves every kept save whole', { timeout: 120_000 }, async () => {
    const store = createMemoryStore();
    const life = await begin(store);
    await saveTimes(life, KEPT_SAVES + 10);
    let killedDeletes = 0;
    for (let steps = 0, isKilled = true; isKilled; steps += 1) {
      await saveTimes(life, 1);
      life.nowMs += MINUTE;
      life.workspace.write('last', `one of ${steps}`);
      await life.snapshot();
      const packs = storedPacks(store);
      isKilled = (await life.killedUpload(steps)) === undefined;
      const [stored, { save }] = [new Set(storedPacks(store)), await headIn(store)];
      if (save?.turn !== life.turn && packs.some((name) => !stored.has(name))) killedDeletes += 1;
      await life.upload();
      await life.checkGone();
    }
    // Some were killed when packs were deleted, and the head was not written yet.
    expect(killedDeletes).toBeGreaterThan(0);
  });

  it('between the deletes and the head: another placement goes on, and every kept save is whole', async () => {
    const store = createMemoryStore();
    const life = await begin(store);
    await saveTimes(life, KEPT_SAVES + 10);
    life.nowMs += MINUTE;
    await life.snapshot();
    const keys: string[] = [];
    store.onCall = ({ method, key, at }) => {
      if (method === 'delete' && at === 'after') keys.push(key);
      if (method === 'writeDocument' && keys.length > 0) throw new Killed('killed');
    };
    await expect(life.host.again().upload(life.of, NEVER)).rejects.toThrow(Killed);
    store.onCall = () => undefined;
    expect(keys.length).toBeGreaterThan(1);
    await life.move();
    await life.check();
    await saveTimes(life, 15);
    await life.checkGone();
    await life.checkContents();
  });
});

describe('a host whose placement is over', () => {
  it.each(['putBlob', 'delete'] as const)('and whose %s comes late takes nothing away', async (late) => {
    const store = createMemoryStore();
    let isOver = false;
    const { held, reached, go } = heldStore(store, (method) => isOver && method === late);
    const life = await begin(store, held);
    await saveTimes(life, KEPT_SAVES + 10);
    life.nowMs += MINUTE;
    life.workspace.write('late', 'of the host before');
    await life.snapshot();
    isOver = true;
    const [before, stale] = [life.of, life.host.again()];
    const upload = stale.upload(before, NEVER);
    await reached;
    await life.move();
    await saveTimes(life, 12);
    const needed = (await headIn(store)).kept;
    go();
    await expect(upload).rejects.toMatchObject({ code: 'CONFLICT' });
    expect((await headIn(store)).kept).toEqual(needed);
    await saveTimes(life, 2);
    await life.checkContents();
  });
});

describe('a save that needs what may be gone', () => {
  async function condemn({ store, nowMs }: SavesLife, pack: string, how: 'gone' | 'condemned'): Promise<void> {
    const head = await headIn(store);
    const kept = head.kept.map((save, n) => (n === 1 && how === 'gone' ? { ...save, gone: [pack] } : save));
    const at = new Date(nowMs).toISOString();
    const condemned = how === 'gone' ? {} : { condemned: [{ at, saveId: '1-0-0', packs: [pack] }] };
    await putHead(store, { ...head, kept, ...condemned });
  }

  it.each(['gone', 'condemned'] as const)('(%s) is given up, and the next one is whole', async (how) => {
    const store = createMemoryStore();
    const life = await begin(store);
    await saveTimes(life, 3);
    const [pack = ''] = storedPacks(store).filter((name) => name.startsWith('1-3-0'));
    await condemn(life, pack, how);
    life.workspace.write('next', 'one');
    await life.snapshot();
    const before = new Map(store.objects);
    await expect(life.host.again().upload(life.of, NEVER)).rejects.toMatchObject({ code: 'SESSION_CORRUPT' });
    expect(store.objects).toEqual(before);
    await life.snapshot();
    expect(life.workspace.deltas.slice(-2)).toEqual([true, false]);
    await life.host.again().upload(life.of, NEVER);
    await life.check();
    expect((await headIn(store)).save?.turn).toBe(life.turn);
  });
});

describe('deletes that fail', () => {
  it('fail no upload, and are made by a later one', async () => {
    const store = createMemoryStore();
    const life = await begin(store);
    await saveTimes(life, KEPT_SAVES + 10);
    store.onCall = ({ method }) => {
      if (method === 'delete') throw new KilnError('STORE_UNAVAILABLE', 'away');
    };
    await saveTimes(life, 3);
    expect((await headIn(store)).condemned?.length).toBe(13);
    store.onCall = () => undefined;
    await saveTimes(life, 1);
    await life.checkGone();
  });
});

describe('the clock of another host', () => {
  it('that was ahead delays a delete, and does not prevent it', async () => {
    const store = createMemoryStore();
    const life = await begin(store);
    life.nowMs += 48 * 60 * MINUTE;
    await saveTimes(life, KEPT_SAVES + 1);
    const [first] = (await headIn(store)).condemned ?? [];
    life.nowMs -= 48 * 60 * MINUTE;
    await life.move();
    const keys = deletes(store);
    life.workspace.write('next', 'one');
    await life.snapshot();
    await life.host.saves.upload(life.of, NEVER);
    expect((await headIn(store)).condemned?.[0]).toEqual({ ...first, at: new Date(life.nowMs).toISOString() });
    life.nowMs += 11 * MINUTE;
    await life.snapshot();
    await life.host.saves.upload(life.of, NEVER);
    expect(keys).toContain(storeKeys.saveTree(SESSION, first?.saveId ?? ''));
  });
});

describe('packs in which little is needed', () => {
  it('are left behind by a save that is whole', async () => {
    const wasteBytes = 20_000;
    const store = createMemoryStore();
    const host = await createSavesHost(store, { wasteBytes, packBytes: 4000 });
    hosts.push(host);
    await host.saves.restore(placed(1), NEVER);
    const workspace = host.workspaces.of('vm-1-1');
    for (let turn = 1; turn <= 30; turn++) {
      // A pack of each turn, of which a small file stays.
      workspace.write(`stays/${turn}`, `${turn}`);
      workspace.write('now', noise(turn, 3000));
      await host.saves.snapshot(placed(1), mark(turn), NEVER);
      await host.saves.upload(placed(1), NEVER);
      const { save } = await headIn(store);
      const packs = save === undefined ? [] : await packsOf(store, save);
      const bytes = packs.map((name) => store.objects.get(storeKeys.savePack(SESSION, name))?.length ?? 0);
      // A save needs up to 9 kB, with its manifest; one save may go beyond the limit.
      expect(bytes.reduce((sum, more) => sum + more, 0)).toBeLessThan(4 * 9000 + wasteBytes + 9000);
    }
    const whole = workspace.deltas.flatMap((isDelta, turn) => (isDelta ? [] : [turn]));
    expect(whole.length).toBeGreaterThan(1);
    expect(whole.length).toBeLessThan(5);
  });
});

describe('a placement that has not restored what the head names', () => {
  it.each([true, false])('reads its tree in the store (there: %s), or does not know what is gone', async (isThere) => {
    const store = createMemoryStore();
    const life = await begin(store);
    await saveTimes(life, 3);
    const { save } = await headIn(store);
    const gone = storedPacks(store).filter((name) => name.startsWith('1-3-0'));
    if (!isThere) store.objects.delete(storeKeys.saveTree(SESSION, save?.saveId ?? ''));
    life.epoch += 1;
    life.workspace.write('new', 'whole');
    await life.snapshot();
    await life.host.again().upload(life.of, NEVER);
    const last = (await headIn(store)).kept.at(-1);
    if (isThere) expect(last?.gone).toEqual(expect.arrayContaining(gone));
    else expect(last).not.toHaveProperty('gone');
  });
});

describe('a head of an earlier version', () => {
  it('goes on: what its saves needed stays for the repair, and their trees go', async () => {
    const store = createMemoryStore();
    const life = await begin(store);
    await saveTimes(life, KEPT_SAVES);
    const head = await headIn(store);
    const kept = head.kept.map(({ turn, saveId, treeSha256 }) => ({ turn, saveId, treeSha256 }));
    await putHead(store, { ...head, kept });
    await saveTimes(life, 12);
    await life.checkContents();
    expect(store.objects.has(storeKeys.saveTree(SESSION, '1-1-0'))).toBe(false);
    expect(storedPacks(store).some((name) => name.startsWith('1-1-0'))).toBe(true);
  });
});
