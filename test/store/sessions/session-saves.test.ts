/** Saves of workspaces in a real store, between two hosts. */
import { afterEach, beforeEach, expect, it } from 'vitest';
import { storeKeys } from '../../../domain/names.ts';
import type { ObjectStore } from '../../../store/object-store.ts';
import { createSavesHost, mark, NEVER, placed, type SavesHost, SESSION } from '../../support/saves/saves-fixture.ts';
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
