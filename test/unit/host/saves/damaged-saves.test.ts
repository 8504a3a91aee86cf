/** Whatever happens to the bytes of a save, in the store or on a host: it is found out, or it makes no difference. */
import { cp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { repetitions } from '../../../../config/test-environment.ts';
import { canonicalHash } from '../../../../contracts/canonical-json.ts';
import { isKilnError } from '../../../../domain/failures.ts';
import { storeKeys } from '../../../../domain/names.ts';
import { createMemoryStore, type MemoryStore } from '../../../support/saves/memory-store.ts';
import { createSavesHost, mark, NEVER, placed, type SavesHost, SESSION } from '../../../support/saves/saves-fixture.ts';

const KINDS = ['flip', 'cut', 'longer', 'swap', 'gone'] as const;
type Damage = { readonly kind: (typeof KINDS)[number]; readonly which: number; readonly at: number };
const damage: fc.Arbitrary<Damage> = fc.record({
  kind: fc.constantFrom(...KINDS),
  which: fc.nat(10_000),
  at: fc.nat(1_000_000),
});

/** A workspace with holes, links and equal files, saved three times: its manifest has several pieces. */
async function savedHost(store: MemoryStore): Promise<SavesHost> {
  const host = await createSavesHost(store, { packBytes: 3000 });
  const workspace = host.workspaces.of('vm-1-1');
  await host.saves.restore(placed(1), NEVER);
  for (let n = 0; n < 100; n++) workspace.write(`f/${n % 7}/${n}`, `content of ${n % 90}`.repeat(1 + (n % 9)));
  await host.saves.snapshot(placed(1), mark(1), NEVER);
  await host.saves.upload(placed(1), NEVER);
  workspace.write('hole', Buffer.concat([Buffer.alloc(128), Buffer.from('x')]));
  workspace.hardlink('g', 'f/3/3');
  workspace.remove('f/5');
  await host.saves.snapshot(placed(1), mark(2), NEVER);
  await host.saves.upload(placed(1), NEVER);
  workspace.write('f/6/6', 'the last turn');
  await host.saves.snapshot(placed(1), mark(3), NEVER);
  return host;
}

/** @returns undefined where the damage changes nothing */
function damaged(data: Buffer, other: Buffer, { kind, at }: Damage): Buffer | 'gone' {
  if (kind === 'gone') return 'gone';
  if (kind === 'swap') return other;
  if (kind === 'longer') return Buffer.concat([data, other.subarray(0, 1 + (at % 50))]);
  const place = at % data.length;
  if (kind === 'cut') return data.subarray(0, place);
  const flipped = Buffer.from(data);
  flipped[place] = (flipped[place] ?? 0) ^ (1 << (at % 8));
  return flipped;
}

const other = <T>(all: readonly T[], one: number): T | undefined => all[(one + 1) % all.length];

async function damageStore(store: MemoryStore, { which, ...more }: Damage): Promise<void> {
  const keys = [...store.objects.keys()];
  // Heads and trees are few, packs many.
  const few = keys.filter((key) => !key.includes('/packs/'));
  const from = which % 3 === 0 ? few : keys;
  const key = from[which % from.length] ?? '';
  const same = keys.filter((name) => name.includes('/packs/') === key.includes('/packs/'));
  const data = store.objects.get(key) ?? Buffer.alloc(1);
  const swapped = store.objects.get(other(same, same.indexOf(key)) ?? '') ?? Buffer.alloc(1);
  const now = damaged(data, swapped, { which, ...more });
  // A session whose head is gone was never saved, or is deleted: nobody can tell otherwise.
  if (now !== 'gone') store.objects.set(key, now);
  else if (key !== storeKeys.saveHead(SESSION)) store.objects.delete(key);
}

it('in the store', { timeout: 120_000 }, async () => {
  const store = createMemoryStore();
  const host = await savedHost(store);
  await host.saves.upload(placed(1), NEVER);
  const expected = host.workspaces.of('vm-1-1').walk();
  const whole = new Map(store.objects);
  let found = 0;
  await fc.assert(
    fc.asyncProperty(damage, async (how) => {
      store.objects.clear();
      for (const [key, data] of whole) store.objects.set(key, data);
      await damageStore(store, how);
      const there = await createSavesHost(store);
      try {
        expect(await there.saves.restore(placed(2), NEVER)).toMatchObject({ mark: mark(3) });
        expect(there.workspaces.of('vm-2-1').walk()).toEqual(expected);
      } catch (error) {
        if (!isKilnError(error, 'SESSION_CORRUPT')) throw error;
        found += 1;
      } finally {
        await there.remove();
      }
    }),
    { numRuns: repetitions({ usually: 40, whole: 2000 }) },
  );
  expect(found).toBeGreaterThan(10);
  await host.remove();
});

async function damageHost(host: SavesHost, { which, ...more }: Damage): Promise<string> {
  const all = await readdir(host.stateDir, { recursive: true, withFileTypes: true });
  const files = all.flatMap((file) => (file.isFile() ? [join(file.parentPath, file.name)] : [])).sort();
  // Without it, and only then, nobody knows the session: that is told, and stays so.
  const isMeant = (path: string) => !path.endsWith('placement.json');
  const paths = files.filter(isMeant);
  const path = paths[which % paths.length] ?? '';
  const now = damaged(await readFile(path), await readFile(other(paths, which % paths.length) ?? ''), {
    which,
    ...more,
  });
  await (now === 'gone' ? rm(path) : writeFile(path, now));
  return path;
}

it('on a host: a later turn is saved whole', { timeout: 120_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(damage, async (how) => {
      const store = createMemoryStore();
      const host = await savedHost(store);
      const there = await createSavesHost(store);
      try {
        await damageHost(host, how);
        host.workspaces.of('vm-1-1').write('f/6/6', 'once more');
        const saves = host.again();
        await saves.snapshot(placed(1), mark(4), NEVER);
        // What is found out here costs one more save.
        await saves.upload(placed(1), NEVER).catch(async (error: unknown) => {
          if (!isKilnError(error, 'SESSION_CORRUPT')) throw error;
          await saves.snapshot(placed(1), mark(4), NEVER);
          await saves.upload(placed(1), NEVER);
        });
        expect(await there.saves.restore(placed(2), NEVER)).toMatchObject({ mark: mark(4) });
        expect(there.workspaces.of('vm-2-1').walk()).toEqual(host.workspaces.of('vm-1-1').walk());
      } finally {
        await host.remove();
        await there.remove();
      }
    }),
    { numRuns: repetitions({ usually: 10, whole: 500 }) },
  );
});

it('a copy on the host that is damaged is fetched again', async () => {
  const store = createMemoryStore();
  const host = await savedHost(store);
  await host.saves.upload(placed(1), NEVER);
  const packs = join(host.stateDir, 'packs');
  const [one = '', two = ''] = (await readdir(packs)).sort();
  await writeFile(join(packs, one), Buffer.alloc((await readFile(join(packs, one))).length));
  await writeFile(join(packs, two), 'short');
  expect(await host.saves.restore(placed(2), NEVER)).toMatchObject({ mark: mark(3) });
  expect(host.workspaces.of('vm-2-1').walk()).toEqual(host.workspaces.of('vm-1-1').walk());
  await host.remove();
});

it('a head of another session, or made up by hand, is none', async () => {
  const store = createMemoryStore();
  const host = await savedHost(store);
  await host.saves.upload(placed(1), NEVER);
  const head: Record<string, unknown> = JSON.parse(store.objects.get(storeKeys.saveHead(SESSION))?.toString() ?? '');
  const { check: _, ...fields } = head;
  const put = async (changed: Record<string, unknown>, check?: string) => {
    const document = { ...changed, check: check ?? (await canonicalHash(changed)) };
    store.objects.set(storeKeys.saveHead(SESSION), Buffer.from(JSON.stringify(document)));
  };
  const restored = () => host.saves.restore(placed(2), NEVER);
  await put({ ...fields, session: { ...SESSION, thread: 'another' } });
  await expect(restored()).rejects.toMatchObject({ code: 'SESSION_CORRUPT' });
  await put({ ...fields, epoch: 0 }, String(head['check']));
  await expect(restored()).rejects.toMatchObject({ code: 'SESSION_CORRUPT' });
  await put(fields);
  expect(await restored()).toMatchObject({ mark: mark(3) });
  await host.remove();
});

/** Changes one file below a folder, in place. */
async function replaceIn(folder: string, isMeant: (name: string) => boolean, change: (data: Buffer) => Buffer) {
  const all = await readdir(folder, { recursive: true, withFileTypes: true });
  const file = all.find((each) => each.isFile() && isMeant(each.name));
  const path = join(file?.parentPath ?? '', file?.name ?? '');
  await writeFile(path, change(await readFile(path)));
}

it('a manifest on the host that names another owner is not built upon', async () => {
  const store = createMemoryStore();
  const host = await savedHost(store);
  await host.saves.upload(placed(1), NEVER);
  await replaceIn(
    join(host.stateDir, 'saves'),
    (name) => name === 'manifest',
    (data) => Buffer.from(data.toString().replace('"uid":0', '"uid":7')),
  );
  await host.saves.snapshot(placed(1), mark(4), NEVER);
  expect(host.workspaces.of('vm-1-1').deltas.slice(-2)).toEqual([true, false]);
  await host.saves.upload(placed(1), NEVER);
  await host.saves.restore(placed(2), NEVER);
  expect(host.workspaces.of('vm-2-1').walk()).toEqual(host.workspaces.of('vm-1-1').walk());
  await host.remove();
});

it('a tree that is well-formed, but not the one that the head names, is damaged', async () => {
  const store = createMemoryStore();
  const host = await savedHost(store);
  await host.saves.upload(placed(1), NEVER);
  const key = storeKeys.saveTree(SESSION, '1-3-0');
  store.objects.set(key, Buffer.from((store.objects.get(key) ?? '').toString().replace('"turn":3', '"turn":2')));
  await expect(host.saves.restore(placed(2), NEVER)).rejects.toMatchObject({ code: 'SESSION_CORRUPT' });
  await host.remove();
});

it('a pack in the spool that is damaged is fetched, where the store has it', async () => {
  const store = createMemoryStore();
  const host = await savedHost(store);
  const saves = join(host.stateDir, 'saves');
  // Killed once the store had everything: the packs are in the spool still.
  await cp(saves, `${saves}-before`, { recursive: true });
  await host.saves.upload(placed(1), NEVER);
  await rm(saves, { recursive: true });
  await rename(`${saves}-before`, saves);
  await replaceIn(
    saves,
    (name) => name.startsWith('1-3-0-'),
    (data) => Buffer.alloc(data.length),
  );
  await rm(join(host.stateDir, 'packs'), { recursive: true });
  expect(await host.saves.restore(placed(1, 2), NEVER)).toMatchObject({ mark: mark(3) });
  expect(host.workspaces.of('vm-1-2').walk()).toEqual(host.workspaces.of('vm-1-1').walk());
  await host.remove();
});
