/** Saves of workspaces in a real store, between two hosts. */
import { afterEach, beforeEach, expect, it } from 'vitest';
import { KEPT_SAVES, MAX_PACK_BYTES } from '../../../contracts/store/save-documents.ts';
import { storeKeys } from '../../../domain/names.ts';
import type { ObjectStore } from '../../../store/object-store.ts';
import { createSaveHeads } from '../../../store/sessions/saves/heads.ts';
import { repairSaves } from '../../../store/sessions/saves/repair-round.ts';
import { readTree } from '../../../store/sessions/saves/trees.ts';
import {
  CONDEMNED_MS,
  createSavesHost,
  mark,
  NEVER,
  placed,
  type SavesHost,
  SESSION,
} from '../../support/saves/saves-fixture.ts';
import { freshObjectStore } from '../../support/servers/object-store.ts';

let store: ObjectStore;
let first: SavesHost;
let second: SavesHost;

beforeEach(async () => {
  store = await freshObjectStore();
  first = await createSavesHost(store);
  second = await createSavesHost(store);
});
afterEach(async () => {
  await first.remove();
  await second.remove();
  store.close();
});

it('a workspace goes to another host and back', async () => {
  const here = first.workspaces.of('vm-1-1');
  await first.saves.restore(placed(1), NEVER);
  for (let n = 0; n < 40; n++) here.write(`f/${n}`, `content of ${n}`.repeat(n));
  await first.saves.snapshot(placed(1), mark(1), NEVER);
  await first.saves.upload(placed(1), NEVER);
  expect(await second.saves.restore(placed(2), NEVER)).toMatchObject({ mark: mark(1), entries: 42 });
  const there = second.workspaces.of('vm-2-1');
  expect(there.walk()).toEqual(here.walk());
  there.write('f/3', 'changed there');
  await second.saves.snapshot(placed(2), mark(2), NEVER);
  await second.saves.upload(placed(2), NEVER);
  await first.saves.restore(placed(3), NEVER);
  expect(first.workspaces.of('vm-3-1').walk()).toEqual(there.walk());
});

it('of two placements that write at once, the later one stays', async () => {
  await first.saves.restore(placed(1), NEVER);
  first.workspaces.of('vm-1-1').write('f', 'of the first');
  await first.saves.snapshot(placed(1), mark(1), NEVER);
  const [late, claimed] = await Promise.allSettled([
    first.saves.upload(placed(1), NEVER),
    second.saves.restore(placed(2), NEVER),
  ]);
  expect(claimed.status).toBe('fulfilled');
  if (late.status === 'rejected') expect(late.reason).toMatchObject({ code: 'CONFLICT' });
  await second.saves.snapshot(placed(2), mark(2), NEVER);
  await second.saves.upload(placed(2), NEVER);
  await expect(first.saves.upload(placed(1), NEVER)).rejects.toMatchObject({ code: 'CONFLICT' });
  await first.saves.restore(placed(3), NEVER);
  expect(first.workspaces.of('vm-3-1').walk()).toEqual(second.workspaces.of('vm-2-1').walk());
});

it.each(['cut', 'swapped', 'gone'])('a pack that is %s in the store is found out', async (how) => {
  await first.saves.restore(placed(1), NEVER);
  for (let n = 0; n < 40; n++) first.workspaces.of('vm-1-1').write(`f/${n}`, `content of ${n}`.repeat(n));
  await first.saves.snapshot(placed(1), mark(1), NEVER);
  await first.saves.upload(placed(1), NEVER);
  const key = storeKeys.savePack(SESSION, '1-1-0-0');
  const pack = await store.readBlob(key, 1_000_000);
  if (how === 'gone') await store.delete(key);
  else if (how === 'cut') await store.putBlob(key, { data: pack.subarray(0, -1) });
  else await store.putBlob(key, { data: await store.readBlob(storeKeys.savePack(SESSION, '1-1-0-1'), 1_000_000) });
  await expect(second.saves.restore(placed(2), NEVER)).rejects.toMatchObject({ code: 'SESSION_CORRUPT' });
});

async function names(prefix: string): Promise<string[]> {
  const { objects } = await store.list(prefix);
  return objects.map(({ key }) => key.slice(prefix.length)).sort();
}

/** @returns the packs that kept saves need, all of which are there, byte for byte */
async function neededPacks(): Promise<string[]> {
  const head = await createSaveHeads(store).read(SESSION);
  const needed = new Set<string>();
  for (const { saveId, treeSha256: sha256 } of head?.kept ?? []) {
    const { tree } = await readTree(store, { session: SESSION, saveId, sha256 });
    for (const { name } of tree.packs) needed.add(name);
  }
  for (const name of needed) await store.readBlob(storeKeys.savePack(SESSION, name), MAX_PACK_BYTES);
  expect(head?.kept.length).toBe(KEPT_SAVES);
  return [...needed].sort();
}

it('a long life leaves in the store what its kept saves need, and the repair finds what an upload has left', async () => {
  let nowMs = Date.now();
  const host = await createSavesHost(store, { clock: () => nowMs });
  await host.saves.restore(placed(1), NEVER);
  const workspace = host.workspaces.of('vm-1-1');
  for (let turn = 1; turn <= KEPT_SAVES + 5; turn++) {
    if (turn === KEPT_SAVES + 5) nowMs += CONDEMNED_MS;
    for (let n = 0; n < 9; n++)
      workspace.write(`f/${n}`, `content of ${n} in ${turn % 7 === n ? turn : ''}`.repeat(50));
    await host.saves.snapshot(placed(1), mark(turn), NEVER);
    await host.saves.upload(placed(1), NEVER);
  }
  await neededPacks();
  // What was dropped last is still to be deleted.
  const { condemned, ...head } = (await createSaveHeads(store).read(SESSION)) ?? {};
  expect(condemned?.map(({ saveId }) => saveId)).toEqual(['1-5-0']);
  expect((await names(storeKeys.saveTrees(SESSION))).length).toBe(KEPT_SAVES + 1);
  await store.putBlob(storeKeys.savePack(SESSION, '0-9-0-0'), { data: Buffer.from('of a placement that is over') });
  await store.putBlob(storeKeys.savePack(SESSION, '1-99-0-0'), { data: Buffer.from('of an upload that goes on') });
  // Everything is old enough.
  const usual = { keepMs: -60_000, everyMs: 0, now: Date.now(), onProgress: () => undefined };
  expect(await repairSaves(store, { ...usual, maxChecked: 1 })).toMatchObject({ problems: [], more: true });
  expect(await repairSaves(store, { ...usual, maxChecked: 1 })).toEqual({ removed: 0, problems: [], more: false });
  expect(await createSaveHeads(store).read(SESSION)).toEqual(head);
  expect(await names(storeKeys.savePacks(SESSION))).toEqual([...(await neededPacks()), '1-99-0-0'].sort());
  expect((await names(storeKeys.saveTrees(SESSION))).length).toBe(KEPT_SAVES);
  await second.saves.restore(placed(2), NEVER);
  expect(second.workspaces.of('vm-2-1').walk()).toEqual(workspace.walk());
  await host.remove();
});
