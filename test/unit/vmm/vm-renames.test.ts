import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { InstanceRecord } from '../../../contracts/host/instance-record.ts';
import { createInstanceStore, type InstanceStore, type RenameStep } from '../../../vmm/instance-record.ts';
import { keptSocketFolders } from '../../../vmm/socket-folders.ts';
import { findStrayVms } from '../../../vmm/stray-vms.ts';

const OLD = 'pool-1';
const NEW = 'w-1-1';

let stateDir: string;
let runtimeDir: string;
beforeEach(async () => {
  stateDir = await mkdtemp(join(tmpdir(), 'kr-'));
  runtimeDir = join(stateDir, 'run');
});
afterEach(() => rm(stateDir, { recursive: true, force: true }));

const at = (vmId: string, ...names: string[]) => join(stateDir, 'vms', vmId, ...names);
const record = (): InstanceRecord => ({
  version: 1,
  vmId: OLD,
  driver: 'fake',
  owner: {
    workflowId: 'pool/h1/a',
    firstExecutionId: 'pool',
    namespaceId: 'pool',
    epoch: 0,
    boot: 0,
    role: 'pool',
    projectId: 'p',
  },
  imageDigest: 'sha256:0',
  vcpus: 1,
  memMib: 128,
  kernelPath: '/k',
  initrdPath: '/i',
  drives: [
    {
      serial: 'kiln-root',
      path: at(OLD, `${OLD}.raw`),
      format: 'raw',
      readOnly: false,
      backing: [{ path: '/images/a', format: 'raw' }],
    },
    { serial: 'kiln-other', path: '/elsewhere/disk', format: 'raw', readOnly: true },
  ],
  sockets: { agent: join(runtimeDir, OLD, 'agent.sock') },
  ports: [],
  createdAt: '2026-01-01T00:00:00.000Z',
});
const owned = (before: InstanceRecord): InstanceRecord => ({
  ...before,
  owner: { ...before.owner, workflowId: 'workload/w', role: 'service' },
});

async function pooled(store: InstanceStore): Promise<void> {
  await store.create(record());
  await writeFile(at(OLD, `${OLD}.raw`), 'disk');
  await mkdir(join(runtimeDir, OLD), { recursive: true });
}

async function expectRenamed(store: InstanceStore): Promise<void> {
  expect(await store.list()).toEqual([NEW]);
  const found = await store.read(NEW);
  expect(found?.owner).toMatchObject({ workflowId: 'workload/w', role: 'service', projectId: 'p' });
  expect(found?.drives.map(({ path }) => path)).toEqual([at(NEW, `${OLD}.raw`), '/elsewhere/disk']);
  expect(await readdir(at(NEW))).toEqual(expect.arrayContaining([`${OLD}.raw`, 'instance.json']));
  expect(await readdir(join(stateDir, 'vms'))).toEqual([NEW]);
}

/** A store whose process dies as soon as this step is on disk. */
const dyingAt = (deadly: RenameStep) =>
  createInstanceStore(stateDir, (step) => {
    if (step === deadly) throw new Error('the worker died');
  });

describe('a VM that is given another name', () => {
  it('takes its record and its disks along; its sockets stay', async () => {
    const store = createInstanceStore(stateDir);
    await pooled(store);
    await store.rename(OLD, NEW, owned);
    await expectRenamed(store);
    expect([...(await keptSocketFolders(store))]).toEqual([OLD]);
    expect(await findStrayVms({ stateDir, runtimeDir })).toEqual([]);
  });

  it.each(['record', 'directory'] as const)(
    'is found whole by a repetition where the worker died after "%s"',
    async (step) => {
      await pooled(createInstanceStore(stateDir));
      await expect(dyingAt(step).rename(OLD, NEW, owned)).rejects.toThrow('died');
      const store = createInstanceStore(stateDir);
      await store.rename(OLD, NEW, owned);
      await expectRenamed(store);
    },
  );

  it.each(['record', 'directory'] as const)(
    'is found whole at the next start where the worker died after "%s"',
    async (step) => {
      await pooled(createInstanceStore(stateDir));
      await expect(dyingAt(step).rename(OLD, NEW, owned)).rejects.toThrow('died');
      const store = createInstanceStore(stateDir);
      expect(await store.finishRenames()).toEqual(step === 'record' ? [NEW] : []);
      await expectRenamed(store);
      expect(await store.finishRenames()).toEqual([]);
    },
  );

  it('is left as it was where the worker died before anything was written', async () => {
    const store = createInstanceStore(stateDir);
    await pooled(store);
    const dying = store.rename(OLD, NEW, () => {
      throw new Error('the worker died');
    });
    await expect(dying).rejects.toThrow('died');
    expect(await store.read(OLD)).toEqual(record());
  });

  it('does not replace another one, and a name without a record stands in no way', async () => {
    const store = createInstanceStore(stateDir);
    await pooled(store);
    await store.create({ ...record(), vmId: 'other', owner: { ...record().owner, workflowId: 'workload/o' } });
    expect((await store.rename(OLD, 'other', owned))?.owner.workflowId).toBe('workload/o');
    expect(await store.read(OLD)).toEqual(record());
    await mkdir(at(NEW), { recursive: true });
    await writeFile(at(NEW, 'left.raw'), 'of an interrupted call');
    await store.rename(OLD, NEW, owned);
    expect(await readdir(at(NEW))).not.toContain('left.raw');
  });

  it('goes to the first of two who want it, and an unknown one is gone', async () => {
    const store = createInstanceStore(stateDir);
    await pooled(store);
    const [first, second] = await Promise.all([store.rename(OLD, NEW, owned), store.rename(OLD, 'w-2-1', owned)]);
    expect([first?.vmId, second]).toEqual([NEW, undefined]);
    expect(await store.rename('never', 'w-3-1', owned)).toBeUndefined();
  });
});
