/** Saves of sessions that are over: readable for a week, then gone, also what comes late. */
import { beforeEach, describe, expect, it } from 'vitest';
import { type SessionName, storeKeys } from '../../../../domain/names.ts';
import { SESSION_DEFAULTS } from '../../../../domain/policies.ts';
import { repairSaves } from '../../../../store/sessions/saves/repair-round.ts';
import { createSessionRecords } from '../../../../store/sessions/session-records.ts';
import { createMemoryStore, type MemoryStore } from '../../../support/saves/memory-store.ts';
import { createSavesHost, mark, NEVER, placed, SESSION } from '../../../support/saves/saves-fixture.ts';

const DAY = 24 * 3_600_000;
const BEGIN = Date.parse('2026-01-01T10:00:00.000Z');
const settings = { ...SESSION_DEFAULTS, image: { name: 'python', digest: `sha256:${'0'.repeat(64)}` } };

let store: MemoryStore;
beforeEach(() => {
  store = createMemoryStore();
  store.nowMs = BEGIN;
});

const records = () => createSessionRecords(store);
const begin = (after: number) =>
  records().begin(SESSION, { after, settings, createdAt: new Date(store.nowMs).toISOString() });
const end = (name: SessionName = SESSION) =>
  records().end(name, { as: 'closed', at: new Date(store.nowMs).toISOString(), cause: 'CLOSE_ASKED', lastTurn: 1 });

/** A round at so many ms after the beginning. @returns how many objects are gone */
async function roundAt(ms: number, maxChecked = 100): Promise<number> {
  store.nowMs = BEGIN + ms;
  const options = { keepMs: DAY, everyMs: 0, now: store.nowMs, maxChecked, onProgress: () => undefined };
  let removed = 0;
  for (let more = true; more; ) {
    const step = await repairSaves(store, options);
    expect(step.problems).toEqual([]);
    removed += step.removed;
    more = step.more;
  }
  return removed;
}

const keys = (part: string): string[] => [...store.objects.keys()].filter((key) => key.includes(part));
const saved = (n: number): string[] => keys(`thread-1/${n}/`).sort();

async function putSaves(session: SessionName): Promise<void> {
  for (const key of [storeKeys.saveTree(session, '1-1-0'), storeKeys.savePack(session, '1-1-0-0')]) {
    await store.putBlob(key, { data: Buffer.from('x') });
  }
  await store.putBlob(storeKeys.saveHead(session), { data: Buffer.from('{}') });
}

describe('a session that is closed', () => {
  it('keeps its saves for seven days, and everything else for longer', async () => {
    await begin(0);
    const record = await end();
    expect(record.deleteAfter).toBe('2026-01-08T10:00:00.000Z');
    expect(keys('ended/')).toEqual(['ended/2026-01-08/default/thread-1/1']);
    const host = await createSavesHost(store);
    await host.saves.restore(placed(1), NEVER);
    host.workspaces.of('vm-1-1').write('f', 'text');
    await host.saves.snapshot(placed(1), mark(1), NEVER);
    await host.saves.upload(placed(1), NEVER);
    await store.putBlob(storeKeys.runOutputChunk(SESSION, 'a', 'vm', 0), { data: Buffer.from('output') });
    expect(await roundAt(7 * DAY - 1)).toBe(0);
    expect(saved(1).length).toBe(4);
    expect(await roundAt(7 * DAY)).toBe(3);
    expect(saved(1)).toEqual([storeKeys.runOutputChunk(SESSION, 'a', 'vm', 0)]);
    // A host that does not know of the end adds nothing.
    await host.saves.snapshot(placed(1), mark(2), NEVER);
    await expect(host.saves.upload(placed(1), NEVER)).rejects.toMatchObject({ code: 'CONFLICT' });
    expect(saved(1).length).toBe(1);
    await host.remove();
  });

  it('loses its head first', async () => {
    await begin(0);
    await end();
    await putSaves(SESSION);
    const gone: string[] = [];
    store.onCall = ({ method, key, at }) => void (method === 'delete' && at === 'after' && gone.push(key));
    expect(await roundAt(8 * DAY)).toBe(3);
    expect(gone[0]).toBe(storeKeys.saveHead(SESSION));
  });

  it('is looked at again for a week: what comes late goes, too', async () => {
    await begin(0);
    await end();
    await putSaves(SESSION);
    expect(await roundAt(7 * DAY)).toBe(3);
    for (const day of [8, 11, 14]) {
      await store.putBlob(storeKeys.savePack(SESSION, '1-2-0-0'), { data: Buffer.from('late') });
      expect(await roundAt(day * DAY)).toBe(1);
      expect(keys('ended/').length).toBe(1);
    }
    await store.putBlob(storeKeys.savePack(SESSION, '1-2-0-0'), { data: Buffer.from('late') });
    expect(await roundAt(14 * DAY + 1)).toBe(1);
    expect([keys('ended/'), saved(1)]).toEqual([[], []]);
  });

  it('and begun anew loses only what is of the session that has ended', async () => {
    await begin(0);
    await putSaves(SESSION);
    store.objects.delete(storeKeys.saveHead(SESSION));
    await end();
    await begin(1);
    const next = { ...SESSION, incarnation: 2 };
    const host = await createSavesHost(store);
    await host.saves.restore({ ...placed(1), session: next }, NEVER);
    await host.saves.snapshot({ ...placed(1), session: next }, mark(1), NEVER);
    await host.saves.upload({ ...placed(1), session: next }, NEVER);
    const before = saved(2);
    expect(before.length).toBeGreaterThan(2);
    // The day has come, and the hour has not.
    expect(await roundAt(7 * DAY - 1)).toBe(0);
    expect(await roundAt(7 * DAY)).toBe(2);
    expect([saved(1), saved(2)]).toEqual([[], before]);
    await host.remove();
  });
});

describe('a marker', () => {
  it('says nothing of a session that goes on: a process was killed before it noted the end', async () => {
    await begin(0);
    await putSaves(SESSION);
    store.onCall = ({ method, key, at }) => {
      if (method === 'writeDocument' && key === storeKeys.session(SESSION) && at === 'before')
        throw new Error('killed');
    };
    await expect(end()).rejects.toThrow('killed');
    store.onCall = () => undefined;
    expect(keys('ended/').length).toBe(1);
    store.objects.delete(storeKeys.saveHead(SESSION));
    expect(await roundAt(9 * DAY)).toBe(0);
    expect(saved(1).length).toBe(2);
    // The end is noted later: from then on the week counts.
    await end();
    expect(await roundAt(15 * DAY)).toBe(0);
    expect(await roundAt(16 * DAY)).toBe(2);
  });

  it('of a session that the record does not know says nothing', async () => {
    await begin(0);
    const later = { ...SESSION, incarnation: 3 };
    const deleteAfter = new Date(BEGIN).toISOString();
    await store.writeDocument(storeKeys.endedMarker(later, deleteAfter), { schemaVersion: 1, deleteAfter });
    await store.putBlob(storeKeys.savePack(later, '1-1-0-0'), { data: Buffer.from('x') });
    expect(await roundAt(DAY)).toBe(0);
  });

  it('of a session that ended in an earlier version is none: its saves stay', async () => {
    await begin(0);
    const { deleteAfter: _, ...record } = await end();
    await store.writeDocument(storeKeys.session(SESSION), record);
    for (const key of keys('ended/')) store.objects.delete(key);
    await store.putBlob(storeKeys.savePack(SESSION, '1-1-0-0'), { data: Buffer.from('x') });
    expect(await roundAt(30 * DAY)).toBe(0);
  });

  it('that is damaged is told, and the others are done, some at a time', async () => {
    for (const thread of ['a', 'b', 'c']) {
      const name = { ...SESSION, thread };
      await records().begin(name, { after: 0, settings, createdAt: new Date(BEGIN).toISOString() });
      await end(name);
      await putSaves(name);
    }
    store.objects.set('ended/2026-01-08/default/b/1', Buffer.from('{'));
    store.objects.set('ended/2026-01-08/what', Buffer.from('{}'));
    store.objects.delete(storeKeys.saveHead({ ...SESSION, thread: 'b' }));
    store.nowMs = BEGIN + 7 * DAY;
    const options = { keepMs: DAY, everyMs: 0, now: store.nowMs, maxChecked: 1, onProgress: () => undefined };
    const problems: string[] = [];
    let removed = 0;
    for (let more = true; more; ) {
      const step = await repairSaves(store, options);
      problems.push(...step.problems);
      removed += step.removed;
      more = step.more;
    }
    expect(removed).toBe(6);
    expect(problems).toEqual([expect.stringContaining('ended/2026-01-08/default/b/1'), expect.anything()]);
    expect(keys('/packs/').length).toBe(1);
  });
});
