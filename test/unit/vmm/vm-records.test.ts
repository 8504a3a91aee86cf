import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createKeyedLock } from '../../../concurrency/keyed-lock.ts';
import type { InstanceRecord } from '../../../contracts/host/instance-record.ts';
import { createInstanceStore, recordedStart } from '../../../vmm/instance-record.ts';
import { findStrayVms } from '../../../vmm/stray-vms.ts';
import { vmPaths } from '../../../vmm/vm-paths.ts';

const record = (vmId: string, change: Partial<InstanceRecord> = {}): InstanceRecord => ({
  version: 1,
  vmId,
  driver: 'qemu',
  owner: { workflowId: 'workload/a', firstExecutionId: 'x', namespaceId: 'n', epoch: 1, boot: 1, role: 'service' },
  imageDigest: 'sha256:0',
  vcpus: 1,
  memMib: 512,
  kernelPath: '/k',
  initrdPath: '/i',
  drives: [{ serial: 'kiln-root', path: '/d', format: 'qcow2', readOnly: false }],
  sockets: { agent: `/run/x/${vmId}/agent.sock` },
  ports: [],
  createdAt: new Date(0).toISOString(),
  ...change,
});

let stateDir: string;
beforeEach(async () => {
  stateDir = await mkdtemp(join(tmpdir(), 'kiln-records-'));
});
afterEach(() => rm(stateDir, { recursive: true, force: true }));

describe('instance records', () => {
  it('are written once: the first one stands', async () => {
    const store = createInstanceStore(stateDir);
    await store.create(record('a-1-1'));
    const found = await store.create(record('a-1-1', { memMib: 99 }));
    expect(found.memMib).toBe(512);
    expect(await store.read('a-1-1')).toEqual(record('a-1-1'));
  });

  it('lose no update, whoever makes it', async () => {
    await createInstanceStore(stateDir).create(record('a-1-1'));
    const stores = [createInstanceStore(stateDir), createInstanceStore(stateDir)];
    await Promise.all(
      Array.from({ length: 20 }, (_, n) =>
        stores[n % 2]?.update('a-1-1', (now) => ({ ...now, ports: [...now.ports, { guestPort: n + 1, hostPort: 1 }] })),
      ),
    );
    expect((await createInstanceStore(stateDir).read('a-1-1'))?.ports).toHaveLength(20);
    expect(await readdir(join(stateDir, 'vms', 'a-1-1'))).toEqual(['instance.json']);
  });

  it('that are known are read again once their file has changed, and are gone with it', async () => {
    const store = createInstanceStore(stateDir);
    await store.create(record('a-1-1'));
    const path = join(stateDir, 'vms', 'a-1-1', 'instance.json');
    const text = await readFile(path, 'utf8');
    // A file that has just been written is not remembered.
    await delay(1_100);
    const known = await store.read('a-1-1');
    expect(await store.read('a-1-1')).toBe(known);
    await writeFile(path, text.replace('512', '513'));
    expect((await store.read('a-1-1'))?.memMib).toBe(513);
    await store.update('a-1-1', (now) => ({ ...now, memMib: 514 }));
    expect((await store.read('a-1-1'))?.memMib).toBe(514);
    await rm(path);
    expect(await store.read('a-1-1')).toBeUndefined();
  });

  it('are read as they were written before a base could be a disk of a template', async () => {
    const store = createInstanceStore(stateDir);
    await store.create(record('a-1-1'));
    const path = join(stateDir, 'vms', 'a-1-1', 'instance.json');
    const old = (await readFile(path, 'utf8')).replace('"path": "/d"', '"path": "/d", "backingPath": "/img"');
    expect(old).toContain('backingPath');
    await writeFile(path, old);
    const [drive] = (await store.read('a-1-1'))?.drives ?? [];
    expect(drive).toEqual({
      ...record('a-1-1').drives[0],
      backing: [{ path: '/img', format: 'raw' }],
    });
  });

  it('say how their VM comes to run; those of older versions show it by what else is in them', () => {
    const template = { templateId: 't-1', memoryPath: '/t/memory', statePath: '/t/state' };
    const renamed = { sockets: { agent: '/run/x/pool-1/agent.sock' } };
    const told = record('a-1-1', { template, start: 'cold', ...renamed });
    expect(recordedStart(told)).toBe('cold');
    expect(recordedStart(record('a-1-1'))).toBe('cold');
    expect(recordedStart(record('a-1-1', { template }))).toBe('template');
    expect(recordedStart(record('a-1-1', { template, ...renamed }))).toBe('pool');
  });

  it('a damaged one is named, and hides no other', async () => {
    const store = createInstanceStore(stateDir);
    await store.create(record('a-1-1'));
    for (const [vmId, text] of [
      ['b-1-1', '{"version":1'],
      ['c-1-1', '{}'],
      ['d-1-1', JSON.stringify(record('a-1-1'))],
    ] as const) {
      await mkdir(store.directory(vmId));
      await writeFile(join(store.directory(vmId), 'instance.json'), text);
      await expect(store.read(vmId)).rejects.toMatchObject({
        code: 'INTERNAL',
        details: { file: join(stateDir, 'vms', vmId, 'instance.json') },
      });
    }
    expect(await store.list()).toEqual(['a-1-1', 'b-1-1', 'c-1-1', 'd-1-1']);
  });

  it('an update of a damaged one leaves it as it is', async () => {
    const store = createInstanceStore(stateDir);
    await mkdir(store.directory('a-1-1'), { recursive: true });
    await writeFile(join(store.directory('a-1-1'), 'instance.json'), 'broken');
    await expect(store.update('a-1-1', (now) => ({ ...now, memMib: 64 }))).rejects.toMatchObject({ code: 'INTERNAL' });
    expect(await readFile(join(store.directory('a-1-1'), 'instance.json'), 'utf8')).toBe('broken');
  });

  it('go with all files beside them, and may go twice', async () => {
    const store = createInstanceStore(stateDir);
    await store.create(record('a-1-1'));
    await mkdir(join(store.directory('a-1-1'), 'deep', 'er'), { recursive: true });
    await chmod(join(store.directory('a-1-1'), 'deep'), 0);
    await store.remove('a-1-1');
    await store.remove('a-1-1');
    expect(await store.list()).toEqual([]);
    expect(await store.update('a-1-1', (now) => now)).toBeUndefined();
    expect(await readdir(join(stateDir, 'vms'))).toEqual([]);
  });

  it('no id leads out of the directory', () => {
    const store = createInstanceStore(stateDir);
    for (const vmId of ['..', '../x', 'a/b', '', 'A', '-a', 'a'.repeat(25)]) {
      expect(() => store.directory(vmId)).toThrow(expect.objectContaining({ code: 'SPEC_INVALID' }));
    }
  });
});

describe('what is left without a record', () => {
  it('is found by directory and by sockets', async () => {
    const store = createInstanceStore(stateDir);
    const runtimeDir = join(stateDir, 'run');
    await store.create(record('a-1-1'));
    await mkdir(join(stateDir, 'vms', 'b-1-1'));
    await mkdir(join(runtimeDir, 'c-1-1'), { recursive: true });
    await mkdir(join(runtimeDir, 'a-1-1'));
    expect(await findStrayVms({ stateDir, runtimeDir })).toEqual(['b-1-1', 'c-1-1']);
  });
});

describe('paths', () => {
  it('a runtime directory that makes sockets too long is refused with the fix', () => {
    const runtimeDir = `/${'x'.repeat(107 - '/abc-1-1/agent.sock'.length)}`;
    expect(() => vmPaths({ stateDir: '/s', runtimeDir }, 'abc-1-1')).toThrow(
      expect.objectContaining({ code: 'CONFIG_INVALID' }),
    );
    const fits = vmPaths({ stateDir: '/s', runtimeDir: runtimeDir.slice(0, -1) }, 'abc-1-1');
    expect(fits.agentSocket).toHaveLength(107);
  });

  it('a runtime directory that a command line would take apart is refused', () => {
    for (const runtimeDir of ['/a,b', '/a b', 'relative', '/a=b']) {
      expect(() => vmPaths({ stateDir: '/s', runtimeDir }, 'a-1-1')).toThrow(
        expect.objectContaining({ code: 'CONFIG_INVALID' }),
      );
    }
  });
});

describe('keyed lock', () => {
  it('runs one key in order, others beside it, and goes on after a failure', async () => {
    const lock = createKeyedLock();
    const order: string[] = [];
    let open: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    const first = lock.run('a', async () => {
      await gate;
      order.push('a1');
      throw new Error('no');
    });
    const second = lock.run('a', async () => order.push('a2'));
    await lock.run('b', async () => order.push('b'));
    open();
    await expect(first).rejects.toThrow('no');
    await second;
    expect(order).toEqual(['b', 'a1', 'a2']);
  });
});
