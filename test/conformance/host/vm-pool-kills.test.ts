/** A host worker with a pool, killed at random moments: everything that it leaves always has an owner. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { directoryEntries } from '../../../linux/directory-entries.ts';
import { createInstanceStore } from '../../../vmm/instance-record.ts';
import { keptSocketFolders } from '../../../vmm/socket-folders.ts';
import { commandLines } from '../../../vmm/vm-process.ts';
import { createFakeHost, type FakeHostPlaces, fakeDriverAt, placesBelow } from '../../support/host/fake-host.ts';
import { whatIsLeft } from '../../support/host/nothing-left.ts';
import { freshObjectStore, storeOptions } from '../../support/servers/object-store.ts';

const KILLS = 20;
/** Long enough for a few workloads; each kill comes at a random moment in it. */
const LONGEST_MS = 600;

const script = fileURLToPath(new URL('../../fixtures/pool-process.ts', import.meta.url));
const inventory = z.object({
  owned: z.array(z.string()),
  pool: z.object({ pool_size: z.number(), max_pool_size: z.number() }),
});

let places: FakeHostPlaces;
beforeAll(async () => {
  places = placesBelow(await mkdtemp(join(tmpdir(), 'kk-')));
});
afterAll(async () => {
  children.at(-1)?.kill('SIGKILL');
  const driver = fakeDriverAt(places);
  for (const vmId of await driver.list()) await driver.destroy(vmId);
  await rm(places.root, { recursive: true, force: true });
});

const children: ChildProcess[] = [];
function startHost(round: number, s3: unknown): ChildProcess {
  const child = spawn(process.execPath, [script, places.root, String(round), JSON.stringify(s3)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  children.push(child);
  return child;
}

/** Everything on the machine that belongs neither to a workload's record nor to the pool, one line each. */
async function unowned(owned: readonly string[]): Promise<string[]> {
  const { stateDir, runtimeDir } = places;
  const records = createInstanceStore(stateDir);
  const vmIds = await records.list();
  const known = await Promise.all(vmIds.map((vmId) => records.read(vmId)));
  const sockets = known.map((record) => record?.sockets.agent ?? '');
  const ofPool = known.flatMap((record) => (record?.owner.role === 'pool' ? [record.vmId] : []));
  const folders = await keptSocketFolders(records);
  const strayProcesses = (await commandLines())
    .filter(({ argv }) => argv.some((word) => word.includes(`${runtimeDir}/`)))
    .filter(({ argv }) => !sockets.some((socket) => argv.some((word) => word.includes(socket))));
  const reservations = (await directoryEntries(join(stateDir, 'reservations'))).map((name) => name.slice(0, -5));
  const pooled = (await directoryEntries(join(stateDir, 'pool'))).map((name) => name.slice(0, -5));
  return [
    ...ofPool.filter((vmId) => !owned.includes(vmId)).map((vmId) => `VM ${vmId}`),
    ...(await readdir(join(stateDir, 'vms')))
      .filter((name) => !vmIds.includes(name))
      .map((name) => `directory ${name}`),
    ...(await directoryEntries(runtimeDir)).filter((name) => !folders.has(name)).map((name) => `sockets ${name}`),
    ...strayProcesses.map(({ pid, argv }) => `process ${pid} ${argv.join(' ')}`),
    ...reservations.filter((id) => id.startsWith('pool-') && !owned.includes(id)).map((id) => `reservation ${id}`),
    ...pooled.filter((id) => !owned.includes(id)).map((id) => `entry ${id}`),
  ];
}

describe(`a host worker that is killed at ${KILLS} moments`, () => {
  it('leaves no VM, socket, process or reservation without an owner', async () => {
    const store = await freshObjectStore();
    for (let round = 0; round < KILLS; round++) {
      const child = startHost(round, storeOptions(store.bucket));
      const ended = once(child, 'exit');
      const died = ended.then(() => Promise.reject(new Error(`round ${round}: the host did not come up`)));
      const [line] = await Promise.race([once(child.stdout ?? child, 'data'), died]);
      died.catch(() => undefined);
      const { owned, pool } = inventory.parse(JSON.parse(String(line)));
      // The pool may have grown beyond its size because earlier requests found no VM; those VMs are not thrown away.
      expect(owned.length, `round ${round}`).toBeGreaterThanOrEqual(pool.pool_size);
      expect(owned.length, `round ${round}`).toBeLessThanOrEqual(pool.max_pool_size);
      expect(await unowned(owned), `round ${round}`).toEqual([]);
      child.stdin?.write('go\n');
      const momentMs = Math.random() * LONGEST_MS;
      await delay(momentMs);
      child.kill('SIGKILL');
      await ended;
    }
    const driver = fakeDriverAt(places);
    const host = await createFakeHost(places, { store, driver, owners: { lookup: async () => 'open' as const } });
    await host.start();
    await host.sweep();
    const left = await driver.list();
    // Only VMs of workloads are left: the pool is switched off and has none.
    expect(await unowned([])).toEqual([]);
    for (const vmId of left) await host.vms.release(vmId, { graceMs: 0 });
    await host.detach();
    store.close();
    expect(await whatIsLeft(places)).toEqual([]);
  });
});
