/** What uploaders have missed is found and deleted, and nothing that any placement needs, or may need soon. */
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { repetitions } from '../../../../config/test-environment.ts';
import { KEPT_SAVES } from '../../../../contracts/store/save-documents.ts';
import { storeKeys } from '../../../../domain/names.ts';
import type { RepairedSaves } from '../../../../ports/maintenance.ts';
import { type RepairSavesOptions, repairSaves } from '../../../../store/sessions/saves/repair-round.ts';
import { headIn, packsOf, putHead, storedPacks } from '../../../support/saves/kept-saves.ts';
import { createMemoryStore, type MemoryStore } from '../../../support/saves/memory-store.ts';
import { NEVER, type SavesHost, SESSION } from '../../../support/saves/saves-fixture.ts';
import { heldStore, lifeOf, MINUTE, noise, type SavesLife, saveTimes } from '../../../support/saves/saves-life.ts';

const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const hosts: SavesHost[] = [];
afterEach(async () => {
  for (const host of hosts.splice(0)) await host.remove();
});

async function begin(store: MemoryStore, first?: Parameters<typeof lifeOf>[1]): Promise<SavesLife> {
  const life = await lifeOf(store, first);
  hosts.push(...life.hosts);
  return life;
}

/** A whole round, whenever the last one was. */
function repair(store: MemoryStore, more: Partial<RepairSavesOptions> = {}): Promise<RepairedSaves> {
  const usual = { keepMs: DAY, everyMs: 0, now: store.nowMs, maxChecked: 100, onProgress: () => undefined };
  return repairSaves(store, { ...usual, ...more });
}

/** The store has what kept saves need, and nothing else. */
async function expectExact(store: MemoryStore): Promise<void> {
  const { kept } = await headIn(store);
  const needed = new Set((await Promise.all(kept.map((save) => packsOf(store, save)))).flat());
  expect(storedPacks(store).sort()).toEqual([...needed].sort());
  const trees = [...store.objects.keys()].filter((key) => key.includes('/trees/'));
  expect(trees.sort()).toEqual(kept.map(({ saveId }) => storeKeys.saveTree(SESSION, saveId)).sort());
}

const step = fc.record({
  edits: fc.array(fc.tuple(fc.constantFrom('a', 'b/c', 'b/d', 'e'), fc.nat(40)), { maxLength: 3 }),
  hours: fc.nat(30),
  killed: fc.option(fc.nat(40), { nil: undefined, freq: 3 }),
  end: fc.constantFrom('upload', 'upload', 'upload', 'move', 'nothing'),
});

describe('the repair', () => {
  it('takes nothing from any life of saves, and all that nobody needs', { timeout: 300_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 30 }), async (steps) => {
        const store = createMemoryStore();
        const life = await begin(store);
        for (const { edits, hours, killed, end } of steps) {
          for (const [path, n] of edits) life.workspace.write(path, `content ${n}`.repeat(n));
          await life.snapshot();
          if (killed !== undefined) await life.killedUpload(killed);
          life.nowMs += hours * HOUR;
          await repair(store);
          await life.check();
          if (end === 'upload') await life.upload();
          else if (end === 'move') await life.move();
        }
        await life.save();
        life.nowMs += 2 * DAY;
        await repair(store);
        await expectExact(store);
        await life.checkContents();
      }),
      { numRuns: repetitions({ usually: 4, whole: 200 }) },
    );
  });

  it('leaves alone what is uploaded just now, however long that takes', async () => {
    const store = createMemoryStore();
    let isHeld = false;
    const { held, reached, go } = heldStore(store, (method) => isHeld && method === 'writeDocument');
    const life = await begin(store, held);
    await saveTimes(life, 3);
    await life.snapshot();
    isHeld = true;
    const upload = life.host.saves.upload(life.of, NEVER);
    await reached;
    life.nowMs += 3 * DAY;
    const before = new Map(store.objects);
    expect(before.has(storeKeys.saveTree(SESSION, `1-${life.turn}-0`))).toBe(true);
    expect(await repair(store)).toEqual({ removed: 0, problems: [], more: false });
    go();
    await upload;
    isHeld = false;
    await life.upload();
    await life.checkContents();
  });

  it('deletes what a killed upload and a late one have left, a day after that', async () => {
    const store = createMemoryStore();
    let isOver = false;
    const { held, reached, go } = heldStore(
      store,
      (method, key) => isOver && method === 'putBlob' && key.endsWith('-1'),
    );
    const life = await begin(store, held);
    await saveTimes(life, 2);
    life.workspace.write('now', noise(0, 2000));
    await life.snapshot();
    isOver = true;
    const late = life.host.saves.upload(life.of, NEVER);
    await reached;
    await life.move();
    await saveTimes(life, 2);
    go();
    await expect(late).rejects.toMatchObject({ code: 'CONFLICT' });
    const left = storedPacks(store).filter((name) => name.startsWith('1-3-0-'));
    expect(left.length).toBeGreaterThan(1);
    life.nowMs += DAY - 2 * MINUTE;
    expect(await repair(store)).toMatchObject({ removed: 0 });
    life.nowMs += 2 * MINUTE + 1;
    expect((await repair(store)).removed).toBeGreaterThanOrEqual(left.length);
    await expectExact(store);
    await life.checkContents();
  });

  it('deletes what heads of an earlier version did not tell, and nothing that their saves need', async () => {
    const store = createMemoryStore();
    const life = await begin(store);
    await saveTimes(life, KEPT_SAVES);
    const { kept, ...head } = await headIn(store);
    await putHead(store, { ...head, kept: kept.map(({ gone: _, ...save }) => save) });
    life.nowMs += 2 * DAY;
    expect(await repair(store)).toMatchObject({ removed: 0 });
    await life.checkContents();
    await saveTimes(life, 12);
    expect(storedPacks(store).some((name) => name.startsWith('1-1-0'))).toBe(true);
    life.nowMs += 2 * DAY;
    expect((await repair(store)).removed).toBeGreaterThan(0);
    await expectExact(store);
    await life.checkContents();
  });

  it('finishes what a session that sleeps has condemned, and not that of one that saves', async () => {
    const store = createMemoryStore();
    const life = await begin(store);
    await saveTimes(life, KEPT_SAVES + 5);
    life.nowMs += DAY;
    expect(await repair(store)).toMatchObject({ removed: 0 });
    expect((await headIn(store)).condemned?.length).toBe(5);
    life.nowMs += 1;
    expect((await repair(store)).removed).toBeGreaterThan(5);
    expect(await headIn(store)).not.toHaveProperty('condemned');
    await expectExact(store);
    await life.checkContents();
    await saveTimes(life, 2);
  });

  it('leaves a head that changes under its hands', async () => {
    const store = createMemoryStore();
    const life = await begin(store);
    await saveTimes(life, KEPT_SAVES + 5);
    life.nowMs += 2 * DAY;
    const changing: MemoryStore = {
      ...store,
      list: async (prefix, options) => {
        const page = await store.list(prefix, options);
        if (prefix === storeKeys.saveHead(SESSION)) await life.save();
        return page;
      },
    };
    await repair(changing);
    expect((await headIn(store)).save?.turn).toBe(KEPT_SAVES + 6);
    await life.check();
    await life.checkContents();
  });

  it('leaves a damaged session alone, says so, and goes on with the others', async () => {
    const store = createMemoryStore();
    const life = await begin(store);
    await saveTimes(life, 3);
    await life.move();
    await saveTimes(life, 1);
    const { save: _, ...other } = await headIn(store);
    for (const [key, data] of [...store.objects]) store.objects.set(key.replace('/thread-1/', '/whole/'), data);
    await putHead(store, { ...other, session: { ...SESSION, thread: 'whole' }, epoch: 9, kept: [] });
    store.objects.delete(storeKeys.saveTree(SESSION, '1-1-0'));
    store.objects.set(storeKeys.savePack(SESSION, '1-9-0-0'), Buffer.from('garbage'));
    life.nowMs += 2 * DAY;
    const before = storedPacks(store);
    const { removed, problems } = await repair(store);
    expect(problems).toEqual([expect.stringContaining('session/default/thread-1/1: ')]);
    expect(storedPacks(store)).toEqual(before);
    expect(removed).toBeGreaterThan(0);
  });

  it('asks for little where there is nothing to do', async () => {
    const store = createMemoryStore();
    const life = await begin(store);
    await saveTimes(life, KEPT_SAVES + 1);
    life.nowMs += 2 * DAY;
    await repair(store);
    const calls: string[] = [];
    store.onCall = ({ method, key, at }) => {
      if (at === 'after' && method !== 'list' && key.startsWith('sessions/default/thread-1/1/')) calls.push(method);
    };
    await repair(store);
    // The head and its tree tell what all kept saves need.
    expect(calls).toEqual(['readDocument', 'readBlob']);
  });
});

describe('a round', () => {
  /** Threads with a pack that nobody needs. */
  function threads(store: MemoryStore, names: readonly string[]): Promise<unknown> {
    return Promise.all(
      names.map(async (name) => {
        const [project = '', thread = ''] = name.split('/');
        const session = { project, thread, incarnation: 2 };
        await putHead(store, { session, epoch: 2, saltHex: '0'.repeat(64), kept: [] });
        await store.putBlob(storeKeys.savePack(session, '1-1-0-0'), { data: Buffer.from('garbage') });
        await store.writeDocument(`sessions/${name}/session.json`, {});
        await store.writeDocument(`sessions/${name}/runs/x.json`, {});
      }),
    );
  }
  const NAMES = ['a/1', 'a/1.x', 'a/2', 'a-b/1', 'b/x', 'c/x', 'c/y'];

  it('goes through all threads step by step, goes on where it was interrupted, and waits for the next', async () => {
    const store = createMemoryStore();
    await threads(store, NAMES);
    store.nowMs = 3 * DAY;
    const once = (more: Partial<RepairSavesOptions> = {}) => repair(store, { maxChecked: 2, everyMs: DAY, ...more });
    expect(await once()).toEqual({ removed: 2, problems: [], more: true });
    let looks = 0;
    const cut = () => {
      looks += 1;
      if (looks > 4) throw new Error('ended');
    };
    await expect(once({ onProgress: cut })).rejects.toThrow('ended');
    const removed: number[] = [];
    for (let more = true; more; ) {
      const step = await once();
      removed.push(step.removed);
      more = step.more;
    }
    const left = [...store.objects.keys()].filter((key) => key.includes('/packs/'));
    expect(left).toEqual([]);
    expect(removed.length).toBeGreaterThan(1);
    await threads(store, ['z/z']);
    store.nowMs += 2 * DAY;
    expect(await once({ now: 4 * DAY - 1 })).toEqual({ removed: 0, problems: [], more: false });
    expect(await once({ now: 4 * DAY })).toMatchObject({ more: true });
  });

  it('begins where nobody knows how far the last one was', async () => {
    const store = createMemoryStore();
    await threads(store, NAMES);
    store.nowMs = 3 * DAY;
    store.objects.set(storeKeys.saveRepair, Buffer.from('{'));
    expect(await repair(store)).toEqual({ removed: NAMES.length, problems: [], more: false });
  });

  it('measures by the clock of the store', async () => {
    const store = createMemoryStore();
    await threads(store, NAMES);
    store.nowMs = DAY;
    expect(await repair(store, { now: 9 * DAY })).toMatchObject({ removed: 0 });
    store.nowMs = DAY + 1;
    expect(await repair(store, { now: 9 * DAY })).toMatchObject({ removed: NAMES.length });
  });
});
