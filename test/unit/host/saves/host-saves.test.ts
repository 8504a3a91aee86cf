/** Workspaces on their way from a guest into the spool, into the store, and back into another guest. */
import fs, { readdir, stat } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { PACK_BYTES } from '../../../../contracts/store/save-documents.ts';
import { isKilnError, KilnError } from '../../../../domain/failures.ts';
import { storeKeys } from '../../../../domain/names.ts';
import { createMemoryStore, type MemoryStore } from '../../../support/saves/memory-store.ts';
import { createSavesHost, mark, NEVER, placed, type SavesHost, SESSION } from '../../../support/saves/saves-fixture.ts';

let store: MemoryStore;
let first: SavesHost;
let second: SavesHost;

beforeEach(async () => {
  store = createMemoryStore();
  first = await createSavesHost(store);
  second = await createSavesHost(store);
});
afterEach(async () => {
  await first.remove();
  await second.remove();
});

const bytesIn = async (directory: string): Promise<number> => {
  const sizes = await Promise.all((await readdir(directory)).map((name) => stat(join(directory, name))));
  return sizes.reduce((sum, { size }) => sum + size, 0);
};

const folders = async (host: SavesHost): Promise<string[]> => {
  const [session = ''] = await readdir(join(host.stateDir, 'saves'));
  const epoch = (await readdir(join(host.stateDir, 'saves', session))).sort().at(-1) ?? '';
  return (await readdir(join(host.stateDir, 'saves', session, epoch))).sort();
};

function fill(host: SavesHost, vmId: string): void {
  const workspace = host.workspaces.of(vmId);
  workspace.write('README', 'hello');
  workspace.write('empty', '');
  workspace.write('src/main.ts', 'x'.repeat(300), { mode: 0o4755 });
  workspace.write('src/\xff\xfe name', Buffer.concat([Buffer.alloc(128), Buffer.from('after a hole')]));
  workspace.symlink('src/link', '../README');
  workspace.hardlink('zweitens', 'README');
  workspace.folder('a/b/c');
  workspace.setXattrs('README', { 'user.z': 'eA==', 'user.ä': 'eQ==' });
}

describe('a saved workspace', () => {
  it('is the same on another host', async () => {
    const here = placed(1);
    fill(first, here.vmId);
    expect(await first.saves.restore(here, NEVER)).toBeUndefined();
    const spooled = await first.saves.snapshot(here, mark(3), NEVER);
    expect(spooled).toMatchObject({ mark: mark(3, 0), consistency: 'quiesced', entries: 11, skipped: 0 });
    const stored = await first.saves.upload(here, NEVER);
    expect(stored).toMatchObject({ mark: mark(3, 0) });
    expect(stored?.sentBytes).toBeGreaterThanOrEqual(spooled.newBytes);

    const there = placed(2);
    second.workspaces.of(there.vmId).write('of the image', 'goes');
    const restored = await second.saves.restore(there, NEVER);
    expect(restored).toMatchObject({ mark: mark(3, 0), entries: 11, bytes: spooled.bytes });
    expect(restored?.fetchedBytes).toBe(stored?.sentBytes);
    const before = first.workspaces.of(here.vmId);
    expect(second.workspaces.of(there.vmId).walk()).toEqual(before.walk());
    expect(second.workspaces.of(there.vmId).read('src/\xff\xfe name')?.subarray(128).toString()).toBe('after a hole');
  });

  it('costs what has changed, also after a restore on another host', async () => {
    await Promise.all([first.remove(), second.remove()]);
    first = await createSavesHost(store, { packBytes: PACK_BYTES });
    second = await createSavesHost(store, { packBytes: PACK_BYTES });
    const here = placed(1);
    await first.saves.restore(here, NEVER);
    for (let n = 0; n < 2000; n++) first.workspaces.of(here.vmId).write(`f/${n}`, `content of ${n}`);
    await first.saves.snapshot(here, mark(1), NEVER);
    const whole = await first.saves.upload(here, NEVER);
    first.workspaces.of(here.vmId).write('f/7', 'another');
    first.workspaces.of(here.vmId).remove('f/8');
    await first.saves.snapshot(here, mark(2), NEVER);
    const delta = await first.saves.upload(here, NEVER);
    expect(first.workspaces.of(here.vmId).deltas).toEqual([false, true]);

    const there = placed(2);
    await second.saves.restore(there, NEVER);
    second.workspaces.of(there.vmId).write('f/9', 'over there');
    const spooled = await second.saves.snapshot(there, mark(3), NEVER);
    expect(second.workspaces.of(there.vmId).deltas).toEqual([true]);
    expect(spooled.newBytes * 3).toBeLessThan(whole?.sentBytes ?? 0);
    expect((delta?.sentBytes ?? 0) * 2).toBeLessThan(whole?.sentBytes ?? 0);
    await second.saves.upload(there, NEVER);
    await first.saves.restore(placed(3), NEVER);
    expect(first.workspaces.of('vm-3-1').walk()).toEqual(second.workspaces.of(there.vmId).walk());
  });

  it('is restored from the spool where the store does not have it yet', async () => {
    await first.saves.restore(placed(1), NEVER);
    fill(first, 'vm-1-1');
    await first.saves.snapshot(placed(1), mark(1), NEVER);
    await first.saves.upload(placed(1), NEVER);
    first.workspaces.of('vm-1-1').write('later', 'only here');
    await first.saves.snapshot(placed(1), mark(2), NEVER);
    const restored = await first.again().restore(placed(1, 2), NEVER);
    expect(restored).toMatchObject({ mark: mark(2, 0), fetchedBytes: 0 });
    expect(first.workspaces.of('vm-1-2').walk()).toEqual(first.workspaces.of('vm-1-1').walk());
    // And goes on from there.
    first.workspaces.of('vm-1-2').write('later', 'and more');
    await first.saves.snapshot(placed(1, 2), mark(3), NEVER);
    expect(first.workspaces.of('vm-1-2').deltas).toEqual([true]);
    await first.saves.upload(placed(1), NEVER);
    await second.saves.restore(placed(2), NEVER);
    expect(second.workspaces.of('vm-2-1').walk()).toEqual(first.workspaces.of('vm-1-2').walk());
  });

  it('is the same save when a turn is saved again', async () => {
    await first.saves.restore(placed(1), NEVER);
    const once = await first.saves.snapshot(placed(1), mark(1), NEVER);
    first.workspaces.of('vm-1-1').write('later', 'not of this turn');
    expect(await first.again().snapshot(placed(1), mark(1), NEVER)).toEqual(once);
    await first.saves.snapshot(placed(1), mark(2), NEVER);
    await expect(first.saves.snapshot(placed(1), mark(1), NEVER)).rejects.toMatchObject({ code: 'CONFLICT' });
  });

  it('is fetched once: its packs stay on the host', async () => {
    await first.saves.restore(placed(1), NEVER);
    fill(first, 'vm-1-1');
    await first.saves.snapshot(placed(1), mark(1), NEVER);
    await first.saves.upload(placed(1), NEVER);
    const tree = store.objects.get(storeKeys.saveTree(SESSION, '1-1-0'));
    // Another placement on the host that has uploaded it reads the tree, and nothing more.
    expect(await first.saves.restore(placed(2), NEVER)).toMatchObject({ fetchedBytes: tree?.length });
    expect((await second.saves.restore(placed(3), NEVER))?.fetchedBytes).toBeGreaterThan(tree?.length ?? 0);
    expect(await second.saves.restore(placed(4), NEVER)).toMatchObject({ fetchedBytes: tree?.length });
    expect(second.workspaces.of('vm-4-1').walk()).toEqual(first.workspaces.of('vm-1-1').walk());
  });

  it('leaves in the spool only the newest, once the store has it', async () => {
    await first.saves.restore(placed(1), NEVER);
    for (const turn of [1, 2, 3]) {
      first.workspaces.of('vm-1-1').write('file', `turn ${turn}`);
      await first.saves.snapshot(placed(1), mark(turn), NEVER);
    }
    expect(await folders(first)).toEqual(['1-1-0', '1-2-0', '1-3-0', 'placement.json']);
    await first.saves.upload(placed(1), NEVER);
    expect(await folders(first)).toEqual(['1-3-0', 'placement.json']);
    expect(store.objects.has(storeKeys.saveTree(SESSION, '1-2-0'))).toBe(false);
    expect(await first.saves.upload(placed(1), NEVER)).toEqual({ mark: mark(3, 0), sentBytes: 0 });
  });

  it('says what is not in it', async () => {
    await first.saves.restore(placed(1), NEVER);
    const workspace = first.workspaces.of('vm-1-1');
    workspace.skipped = Array.from({ length: 150 }, (_, n) => ({ path: `s${n}`, type: 'socket' as const }));
    workspace.changed = 1;
    expect(await first.saves.snapshot(placed(1), mark(1), NEVER)).toMatchObject({ skipped: 150, consistency: 'live' });
  });
});

describe('a store that is away for one call', () => {
  it.each(['before', 'after'] as const)('%s its effect changes nothing but the time that it takes', async (when) => {
    for (let turn = 1, calls = 0, isAway = true; isAway; turn += 1) {
      let left = turn;
      isAway = false;
      const repeated = async <T>(work: () => Promise<T>): Promise<T> => {
        store.onCall = ({ at }) => {
          if (at !== when) return;
          left -= 1;
          calls += 1;
          if (left !== 0) return;
          isAway = true;
          throw new KilnError('STORE_UNAVAILABLE', 'away');
        };
        return await work().catch((error: unknown) => {
          if (!isKilnError(error, 'STORE_UNAVAILABLE')) throw error;
          return work();
        });
      };
      await repeated(() => first.saves.restore(placed(turn), NEVER));
      const vm = placed(turn);
      first.workspaces.of(vm.vmId).write('f', `turn ${turn}`.repeat(50));
      await first.saves.snapshot(vm, mark(turn), NEVER);
      expect(await repeated(() => first.saves.upload(vm, NEVER))).toMatchObject({ mark: mark(turn) });
      expect(await repeated(() => second.again().restore(placed(turn + 1), NEVER))).toMatchObject({ mark: mark(turn) });
      expect(second.workspaces.of(placed(turn + 1).vmId).walk()).toEqual(first.workspaces.of(vm.vmId).walk());
      expect(calls).toBeGreaterThan(5);
    }
  });
});

describe('a full disk', () => {
  it('is told as that, and what did not fit is gone', async () => {
    await first.saves.restore(placed(1), NEVER);
    fill(first, 'vm-1-1');
    const full = Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
    const real = { open: fs.open };
    Object.assign(fs, {
      open: async (...args: Parameters<typeof fs.open>) => {
        const file = await real.open(...args);
        if (String(args[0]).endsWith('1-1-0-0')) Object.assign(file, { sync: () => Promise.reject(full) });
        return file;
      },
    });
    syncBuiltinESMExports();
    try {
      await expect(first.saves.snapshot(placed(1), mark(1), NEVER)).rejects.toMatchObject({ code: 'DISK_FULL' });
    } finally {
      Object.assign(fs, real);
      syncBuiltinESMExports();
    }
    const [session = ''] = await readdir(join(first.stateDir, 'saves'));
    expect(await readdir(join(first.stateDir, 'saves', session, '1', '1-1-0'))).toEqual([]);
    expect(await first.saves.snapshot(placed(1), mark(1), NEVER)).toMatchObject({ mark: mark(1) });
  });
});

describe('the copies of packs on a host', () => {
  it('stay below their limit, and a restore works without any', async () => {
    await Promise.all([first.remove(), second.remove()]);
    first = await createSavesHost(store, { maxCacheBytes: 2000 });
    second = await createSavesHost(store, { maxCacheBytes: 0 });
    await first.saves.restore(placed(1), NEVER);
    for (let n = 0; n < 200; n++) first.workspaces.of('vm-1-1').write(`f/${n}`, `content of ${n}`);
    await first.saves.snapshot(placed(1), mark(1), NEVER);
    await first.saves.upload(placed(1), NEVER);
    expect(await bytesIn(join(first.stateDir, 'packs'))).toBeLessThanOrEqual(2000);
    const whole = [...store.objects].filter(([key]) => key.includes('/packs/')).length;
    expect(whole).toBeGreaterThan(5);
    for (const host of [first, second]) {
      const of = host === first ? placed(2) : placed(3);
      await host.saves.restore(of, NEVER);
      expect(host.workspaces.of(of.vmId).walk()).toEqual(first.workspaces.of('vm-1-1').walk());
    }
    // What was fetched last may lie there until the next comes.
    expect((await readdir(join(second.stateDir, 'packs'))).length).toBeLessThanOrEqual(4);
  });
});

describe('a placement', () => {
  it('that was followed by another changes nothing any more', async () => {
    await first.saves.restore(placed(1), NEVER);
    await first.saves.snapshot(placed(1), mark(1), NEVER);
    await first.saves.upload(placed(1), NEVER);
    await first.saves.snapshot(placed(1), mark(2), NEVER);
    await second.saves.restore(placed(2), NEVER);
    const before = new Map(store.objects);
    await expect(first.saves.upload(placed(1), NEVER)).rejects.toMatchObject({ code: 'CONFLICT' });
    await expect(first.saves.restore(placed(1, 2), NEVER)).rejects.toMatchObject({ code: 'CONFLICT' });
    expect(store.objects).toEqual(before);
  });

  it('that never saved anything has nothing to upload', async () => {
    expect(await first.saves.upload(placed(1), NEVER)).toBeUndefined();
    await first.saves.restore(placed(1), NEVER);
    expect(await first.saves.upload(placed(1), NEVER)).toBeUndefined();
  });

  it('saves without having restored first', async () => {
    fill(first, 'vm-1-1');
    await first.saves.snapshot(placed(1), mark(1), NEVER);
    await first.saves.upload(placed(1), NEVER);
    await second.saves.restore(placed(2), NEVER);
    expect(second.workspaces.of('vm-2-1').walk()).toEqual(first.workspaces.of('vm-1-1').walk());
  });

  it('adds nothing to a session that was deleted', async () => {
    await first.saves.restore(placed(1), NEVER);
    await first.saves.snapshot(placed(1), mark(1), NEVER);
    store.objects.clear();
    await expect(first.saves.upload(placed(1), NEVER)).rejects.toMatchObject({ code: 'CONFLICT' });
    await expect(first.saves.restore(placed(1, 2), NEVER)).rejects.toMatchObject({ code: 'CONFLICT' });
    expect(store.objects.size).toBe(0);
  });
});

describe('a claim without a restore', () => {
  const claims = (epoch: number, host = first) => host.saves.claim({ session: SESSION, epoch });

  it('makes the head of a session that was never saved, and its saves go by it', async () => {
    expect([await claims(1), await claims(1)]).toEqual(['ours', 'ours']);
    const here = placed(1);
    fill(first, here.vmId);
    await first.saves.snapshot(here, mark(1), NEVER);
    await first.saves.upload(here, NEVER);
    expect(await claims(1)).toBe('ours');
    await second.saves.restore(placed(2), NEVER);
    expect(second.workspaces.of('vm-2-1').walk()).toEqual(first.workspaces.of(here.vmId).walk());
    expect(await claims(1)).toBe('anothers');
    await expect(first.saves.upload(here, NEVER)).rejects.toMatchObject({ code: 'CONFLICT' });
  });

  it('takes over a head, so that an earlier placement saves no more', async () => {
    const here = placed(1);
    fill(first, here.vmId);
    await first.saves.restore(here, NEVER);
    await first.saves.snapshot(here, mark(1), NEVER);
    expect(await claims(2, second)).toBe('ours');
    await expect(first.saves.upload(here, NEVER)).rejects.toMatchObject({ code: 'CONFLICT' });
    expect(await claims(1)).toBe('anothers');
  });

  it('makes nothing of a session that was deleted', async () => {
    const here = placed(1);
    fill(first, here.vmId);
    await first.saves.restore(here, NEVER);
    store.objects.clear();
    expect(await claims(1)).toBe('anothers');
    expect(store.objects.size).toBe(0);
  });

  it('makes no head again that it has made itself, and that was deleted since', async () => {
    expect(await claims(1)).toBe('ours');
    store.objects.clear();
    expect([await claims(1), store.objects.size]).toEqual(['anothers', 0]);
  });

  it('beside a restore and the first save changes none of the ids that the saves go by', async () => {
    for (let round = 0; round < 20; round++) {
      await first.remove();
      store = createMemoryStore();
      first = await createSavesHost(store);
      const here = placed(1);
      fill(first, here.vmId);
      const saving = first.saves.snapshot(here, mark(1), NEVER);
      expect(await claims(1)).toBe('ours');
      await saving;
      await first.saves.upload(here, NEVER);
      first.workspaces.of(here.vmId).write('more', 'of it');
      await first.saves.snapshot(here, mark(2), NEVER);
      await first.saves.upload(here, NEVER);
      await second.remove();
      second = await createSavesHost(store);
      await second.saves.restore(placed(2), NEVER);
      expect(second.workspaces.of('vm-2-1').walk()).toEqual(first.workspaces.of(here.vmId).walk());
    }
  });

  it('says nothing where the store does not answer', async () => {
    store.onCall = () => {
      throw new KilnError('STORE_UNAVAILABLE', 'away');
    };
    await expect(claims(1)).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
  });
});
