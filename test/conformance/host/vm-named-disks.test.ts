/** Disks that are not files in the folder of their VM: only their provisioner can remove them, and only by name. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Host } from '../../../host/host.ts';
import { DEFAULT_HOST_SETTINGS } from '../../../host/host-settings.ts';
import type { VmDriver } from '../../../ports/vm-driver.ts';
import type { ObjectStore } from '../../../store/object-store.ts';
import {
  bootVm,
  createFakeHost,
  type FakeHostPlaces,
  fakeDriverAt,
  IMAGE_DIGEST,
  placesBelow,
} from '../../support/host/fake-host.ts';
import { createNamedDisks, type NamedDisks } from '../../support/host/named-disks.ts';
import { whatIsLeft } from '../../support/host/nothing-left.ts';
import { freshObjectStore } from '../../support/servers/object-store.ts';

const WARM = [{ image: 'node', vcpus: 1, memMib: 128 }];

let places: FakeHostPlaces;
let store: ObjectStore;
let driver: VmDriver;
let disks: NamedDisks;
const hosts: Host[] = [];

beforeEach(async () => {
  places = placesBelow(await mkdtemp(join(tmpdir(), 'kn-')));
  store = await freshObjectStore();
  disks = createNamedDisks();
});
afterEach(async () => {
  for (const host of hosts.splice(0)) await host.detach();
  // Removes the VMs that the pool has left.
  const last = await newHost(0);
  for (const vmId of await driver.list()) await last.vms.release(vmId, { graceMs: 0 });
  await last.detach();
  hosts.splice(0);
  store.close();
  const left = [...(await whatIsLeft(places)), ...disks.names];
  await rm(places.root, { recursive: true, force: true });
  expect(left).toEqual([]);
});

async function newHost(poolSize: number): Promise<Host> {
  driver = fakeDriverAt(places);
  const limits = { pool_size: poolSize, min_idle: poolSize };
  const host = await createFakeHost(places, {
    store,
    driver,
    provisioner: disks,
    owners: { lookup: async () => 'open' },
    resolveImage: async () => IMAGE_DIGEST,
    settings: { pool: { ...DEFAULT_HOST_SETTINGS.pool, limits, warm: WARM, blockedMs: 0 } },
  });
  hosts.push(host);
  await host.start();
  await fill(host);
  return host;
}

/** Waits for the missing VMs of the pool. While a guest starts, the pool begins none: `settled` alone is too early. */
async function fill(host: Host): Promise<void> {
  await host.pool.maintain();
  await host.pool.settled();
}

describe('a disk that is known by its name alone', () => {
  it('is gone with the VM that it was made for', async () => {
    const host = await newHost(0);
    await bootVm(host, 'abc-1-1', 'w1');
    expect([...disks.names]).toEqual(['kiln-abc-1-1-root']);
    await host.vms.release('abc-1-1', { graceMs: 0 });
    expect([...disks.names]).toEqual([]);
  });

  it('of a VM of the pool stays with the workload that it was given to, and is gone with that', async () => {
    const host = await newHost(1);
    const [pooled = ''] = await driver.list();
    await bootVm(host, 'abc-1-1', 'w1');
    await fill(host);
    // Like a pool that died before it had deleted its entry.
    await host.vms.release(pooled, { graceMs: 0 });
    expect(disks.names).toContain(`kiln-${pooled}-root`);
    await (await host.vms.agent('abc-1-1')).ping();
    await host.vms.release('abc-1-1', { graceMs: 0 });
    expect(disks.names).not.toContain(`kiln-${pooled}-root`);
    expect(disks.names.size).toBe((await driver.list()).length);
  });

  it('is gone by its name where the record is damaged', async () => {
    const host = await newHost(0);
    await bootVm(host, 'abc-1-1', 'w1');
    await writeFile(join(places.stateDir, 'vms', 'abc-1-1', 'instance.json'), '{');
    await host.vms.release('abc-1-1', { graceMs: 0 });
    expect([...disks.names]).toEqual([]);
  });
});
