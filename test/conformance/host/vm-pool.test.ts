/** The pool over real processes: a ready VM becomes a workload's VM, and no VM is ever without an owner. */
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { poolStatusSchema } from '../../../contracts/api/pool.ts';
import { KilnError } from '../../../domain/failures.ts';
import { storeKeys } from '../../../domain/names.ts';
import type { PoolSettingOverrides } from '../../../domain/pool/pool-policy.ts';
import type { OwnerVerdict } from '../../../domain/upkeep/sweep-policy.ts';
import type { Host, HostOptions } from '../../../host/host.ts';
import { DEFAULT_HOST_SETTINGS } from '../../../host/host-settings.ts';
import type { VmDriver } from '../../../ports/vm-driver.ts';
import type { ObjectStore } from '../../../store/object-store.ts';
import { createInstanceStore } from '../../../vmm/instance-record.ts';
import {
  bootVm,
  createFakeHost,
  deployService,
  type FakeHostPlaces,
  fakeDriverAt,
  IMAGE_DIGEST,
  ownerOf,
  placesBelow,
} from '../../support/host/fake-host.ts';
import { whatIsLeft } from '../../support/host/nothing-left.ts';
import { freshObjectStore } from '../../support/servers/object-store.ts';

const SIZE = { vcpus: 1, memMib: 128 };
const WARM = [{ image: 'node', ...SIZE }];

let places: FakeHostPlaces;
let store: ObjectStore;
let driver: VmDriver;
let verdict: OwnerVerdict;
const hosts: Host[] = [];

beforeEach(async () => {
  places = placesBelow(await mkdtemp(join(tmpdir(), 'kp-')));
  store = await freshObjectStore();
  verdict = 'open';
});
afterEach(async () => {
  for (const host of hosts.splice(0)) await host.detach();
  const last = await newHost({ pool_size: 0 });
  await last.start();
  for (const vmId of await driver.list()) await last.vms.release(vmId, { graceMs: 0 });
  for (const { id } of await last.ledger.list()) await last.ledger.release(id);
  await last.detach();
  hosts.splice(0);
  store.close();
  const left = await whatIsLeft(places);
  await rm(places.root, { recursive: true, force: true });
  expect(left).toEqual([]);
});

async function newHost(limits: PoolSettingOverrides, more: Partial<HostOptions> = {}): Promise<Host> {
  driver = fakeDriverAt(places);
  const host = await createFakeHost(places, {
    store,
    driver,
    owners: { lookup: async () => verdict },
    resolveImage: async () => IMAGE_DIGEST,
    ...more,
    settings: { pool: { ...DEFAULT_HOST_SETTINGS.pool, limits, warm: WARM, blockedMs: 0 }, ...more.settings },
  });
  hosts.push(host);
  return host;
}

/** @returns a host whose pool is full */
async function poolHost(
  limits: PoolSettingOverrides = { pool_size: 2 },
  more: Partial<HostOptions> = {},
): Promise<Host> {
  const host = await newHost(limits, more);
  await host.start();
  await full(host);
  return host;
}

async function full(host: Host): Promise<void> {
  await host.pool.maintain();
  await host.pool.settled();
}

const get = async (url: string) => (await fetch(url, { headers: { connection: 'close' } })).text();

const readyPids = async (host: Host) => {
  const vms = host.pool.status().pools.flatMap((pool) => pool.vms.filter(({ state }) => state === 'ready'));
  const found = await Promise.all(vms.map(({ vmId }) => driver.inspect(vmId)));
  return found.map((vm) => vm?.pid).sort();
};

describe('a template that a guest does not go on from', () => {
  it('is told of by the pool, too', async () => {
    const given: string[] = [];
    const limits = { pool_size: 1, min_idle: 1 };
    const host = await newHost(limits, {
      // With `blockedMs: 0` the pool would try again at once, forever.
      settings: { pool: { ...DEFAULT_HOST_SETTINGS.pool, limits, warm: WARM } },
      poolMeans: {
        boot: async () => {
          throw new KilnError('TEMPLATE_CORRUPT', 'no answer', { templateId: 't-1' });
        },
        blameTemplate: async (templateId) => void given.push(templateId),
      },
    });
    await host.start();
    await full(host);
    expect(given).toContain('t-1');
    expect(await driver.list()).toEqual([]);
  });
});

describe('a clone whose maker died before the pool had noted its template', () => {
  it('keeps the age of that template with the next worker', async () => {
    const limits = { pool_size: 1, min_idle: 1 };
    const host = await poolHost(limits);
    const [vmId = ''] = await driver.list();
    await host.detach();
    const template = { templateId: 't-1', memoryPath: '/none/memory', statePath: '/none/state' };
    await createInstanceStore(places.stateDir).update(vmId, (record) => ({ ...record, template }));
    const next = await newHost(limits, {
      poolMeans: { templateOf: async (templateId) => ({ templateId, createdAtMs: Date.now() }) },
    });
    await next.start();
    expect(next.pool.status().pools[0]?.vms).toMatchObject([{ vmId, templateId: 't-1' }]);
  });
});

describe('a workload', () => {
  it('gets a VM that was ready, under its own name and with its own identity, and it serves', async () => {
    const host = await poolHost();
    const pids = await readyPids(host);
    expect(pids).toHaveLength(2);
    const { pid, url } = await deployService(host, 'abc-1-1', 'w1');
    expect(pids).toContain(pid);
    expect((await driver.inspect('abc-1-1'))?.owner).toEqual(ownerOf('w1'));
    const agent = await host.vms.agent('abc-1-1');
    const exec = await agent.exec({ execId: 'who', argv: ['hostname'], cwd: '/', output: 'wait' });
    let said = '';
    for await (const part of exec.output) if (part.kind === 'data') said += part.data.toString();
    expect(said.trim()).toBe('w1');
    expect(await get(url)).toMatch(/^\d+ 1$/);
    expect(host.pool.status().counters).toMatchObject({ hits: 1, misses: 0 });
  });

  it('keeps it through a sweep and a restart of the host worker, and frees it whole', async () => {
    const host = await poolHost();
    const { pid, url } = await deployService(host, 'abc-1-1', 'w1');
    await full(host);
    expect((await host.sweep()).removed).toEqual([]);
    await host.detach();
    const next = await poolHost();
    expect((await driver.inspect('abc-1-1'))?.pid).toBe(pid);
    expect(await get(url)).toMatch(/^\d+ 1$/);
    await next.vms.release('abc-1-1', { graceMs: 0 });
    expect(await driver.list()).not.toContain('abc-1-1');
    expect((await next.sweep()).removed).toEqual([]);
  });

  it('that asks again, under the same name, has the same VM, and the pool gives no second one', async () => {
    const host = await poolHost();
    const pid = await bootVm(host, 'abc-1-1', 'w1');
    expect(await bootVm(host, 'abc-1-1', 'w1')).toBe(pid);
    expect(host.pool.status().counters.hits).toBe(1);
    const again = { vmId: 'abc-1-1', owner: ownerOf('w1'), imageDigest: IMAGE_DIGEST, resources: SIZE };
    expect(await host.vms.provision(again)).toEqual({ provisioner: 'pool', provisionMs: 0, start: 'pool' });
  });

  it('keeps it where the host worker died right after the hand-over, before the pool had forgotten it', async () => {
    const host = await poolHost({ pool_size: 1, min_idle: 1 });
    const entries = join(places.stateDir, 'pool');
    const [entry = ''] = await readdir(entries);
    const files = [join(entries, entry), join(places.stateDir, 'reservations', entry)];
    const before = await Promise.all(files.map((file) => readFile(file)));
    const pid = await bootVm(host, 'abc-1-1', 'w1');
    await host.detach();
    await Promise.all(files.map((file, index) => writeFile(file, before[index] ?? '')));
    const next = await newHost({ pool_size: 0 });
    await next.start();
    await next.sweep();
    expect(await next.vms.status('abc-1-1')).toMatchObject({ state: 'running', pid });
    expect([await readdir(entries), await next.ledger.list()]).toEqual([[], []]);
    await driver.destroy(entry.replace('.json', ''));
    await (await next.vms.agent('abc-1-1')).ping();
  });

  it('of another size or project gets a VM of its own', async () => {
    const host = await poolHost();
    const owner = { ...ownerOf('w1'), projectId: 'p' };
    const made = await host.vms.provision({ vmId: 'abc-1-1', owner, imageDigest: IMAGE_DIGEST, resources: SIZE });
    expect(made.provisioner).toBe('sparse-copy');
    expect(host.pool.status().counters).toMatchObject({ hits: 0, misses: 1 });
  });
});

describe('the pool', () => {
  it('is taken over by the next host worker, and fills up what was handed out', async () => {
    const host = await poolHost();
    await bootVm(host, 'abc-1-1', 'w1');
    await full(host);
    const pids = await readyPids(host);
    await host.detach();
    expect(await readyPids(await poolHost())).toEqual(pids);
  });

  it('is gone with the next host worker where it is switched off', async () => {
    await (await poolHost()).detach();
    const host = await newHost({ pool_size: 0 });
    await host.start();
    expect([await driver.list(), await host.ledger.list()]).toEqual([[], []]);
    expect(await readdir(join(places.stateDir, 'pool'))).toEqual([]);
  });

  it('is left alone by a sweep, whatever Temporal says of workloads', async () => {
    const host = await poolHost();
    verdict = 'over';
    const { adopted, destroyed, removed } = await host.sweep();
    expect([adopted, destroyed, removed]).toEqual([[], [], []]);
    expect(await readyPids(host)).toHaveLength(2);
  });

  it('replaces a VM that ended by itself', async () => {
    const host = await poolHost();
    const [pid = 0] = await readyPids(host);
    process.kill(pid, 'SIGKILL');
    await expect
      .poll(async () => {
        await full(host);
        return host.pool.status().counters.recycled;
      })
      .toEqual({ gone: 1 });
    await full(host);
    expect(await readyPids(host)).toHaveLength(2);
    expect(await readyPids(host)).not.toContain(pid);
  });

  it('gives way to a workload on a host that is full, and counts as free until then', async () => {
    const capacity = { vcpus: 2, memMib: 2000 };
    const host = await poolHost({ pool_size: 2 }, { capacity });
    expect((await host.ledger.totals()).free.vcpus).toBe(2);
    const request = {
      id: 'abc-1',
      ownerWorkflowId: 'workload/w1',
      resources: { vcpus: 1, memMib: 256 },
      ttlMs: 60_000,
    };
    expect(await host.ledger.reserve(request)).toBe(true);
    expect(await host.ledger.reserve({ ...request, id: 'abc-2', resources: { vcpus: 9, memMib: 64 } })).toBe(false);
    expect(host.pool.status().counters.recycled).toEqual({ capacity: 1 });
    expect((await host.ledger.list()).map(({ ownerWorkflowId }) => ownerWorkflowId.split('/')[0]).sort()).toEqual([
      'pool',
      'workload',
    ]);
  });

  it('follows its tag to another image, and drains the older one', async () => {
    let digest = IMAGE_DIGEST;
    const host = await poolHost({ pool_size: 1, min_idle: 1 }, { resolveImage: async () => digest });
    digest = `sha256:${'1'.repeat(64)}`;
    await full(host);
    await full(host);
    expect(host.pool.status().pools.map(({ imageDigest, ready }) => [imageDigest, ready])).toEqual([[digest, 1]]);
    expect(host.pool.status().counters.recycled).toEqual({ 'image-replaced': 1 });
  });

  it('says what it has, in the store', async () => {
    const host = await poolHost();
    const read = async () => (await store.readDocument(storeKeys.pool('h1'), poolStatusSchema))?.value.pools[0]?.ready;
    await expect.poll(read, { timeout: 10_000 }).toBe(2);
    expect(host.pool.status()).toMatchObject({ hostId: 'h1', enabled: true });
  });
});
