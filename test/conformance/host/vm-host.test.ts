/** A host with real processes as VMs: they outlive the host process that made them, and are removed on request. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { hostEntrySchema } from '../../../contracts/store/host-entry.ts';
import { storeKeys } from '../../../domain/names.ts';
import { workloadRef } from '../../../domain/owner.ts';
import type { OwnerVerdict } from '../../../domain/upkeep/sweep-policy.ts';
import type { Host, HostOptions } from '../../../host/host.ts';
import type { VmDriver } from '../../../ports/vm-driver.ts';
import type { ObjectStore } from '../../../store/object-store.ts';
import { fetchIn, get } from '../../support/guest/guest-fetch.ts';
import { wayOut } from '../../support/guest/way-out.ts';
import {
  bootVm,
  createFakeHost,
  deployService,
  type FakeHostPlaces,
  fakeDriverAt,
  GUEST_PORT,
  HOST_TOKEN,
  IMAGE_DIGEST,
  ownerOf,
  placesBelow,
} from '../../support/host/fake-host.ts';
import { whatIsLeft } from '../../support/host/nothing-left.ts';
import { freshObjectStore, storeOptions } from '../../support/servers/object-store.ts';

const VM = 'abc-0-0';
let places: FakeHostPlaces;
let store: ObjectStore;
let driver: VmDriver;
let verdict: OwnerVerdict;
let lookups: number;
const hosts: Host[] = [];
const ports: number[] = [];

beforeEach(async () => {
  places = placesBelow(await mkdtemp(join(tmpdir(), 'kh-')));
  store = await freshObjectStore();
  verdict = 'open';
  lookups = 0;
});
afterEach(async () => {
  const last = hosts.at(-1);
  for (const vmId of await driver.list()) await last?.vms.release(vmId, { graceMs: 0 });
  for (const { id } of (await last?.ledger.list()) ?? []) await last?.ledger.release(id);
  for (const host of hosts.splice(0)) await host.detach();
  store.close();
  const left = await whatIsLeft({ ...places, ports: ports.splice(0) });
  await rm(places.root, { recursive: true, force: true });
  expect(left).toEqual([]);
});

/** A host in a process that has just started, so it knows only what is on disk. */
async function newHost(more: Partial<HostOptions> = {}): Promise<Host> {
  driver = fakeDriverAt(places);
  const owners = {
    async lookup() {
      lookups++;
      return verdict;
    },
  };
  const host = await createFakeHost(places, { store, owners, driver, ...more });
  hosts.push(host);
  return host;
}
/** @returns a started host, once its first sweep is done */
async function startedHost(more: Partial<HostOptions> = {}): Promise<Host> {
  const host = await newHost(more);
  await host.start();
  await host.sweep();
  return host;
}
const sweeping = (limits: { graceMs: number; maxDestroys: number }) => ({
  settings: { sweep: { everyMs: 3_600_000, ...limits } },
});
async function deploy(host: Host, vmId = VM, workloadId = 'w1') {
  const deployed = await deployService(host, vmId, workloadId);
  ports.push(deployed.port);
  return deployed;
}
const logOf = async (host: Host, workloadId = 'w1') => {
  const log = workloadRef(workloadId, 0);
  await (await host.logs.open(log)).flush();
  return (await host.logs.read(log, -1, 1000)).map(({ level, message }) => `${level} ${message}`);
};

describe('a VM on its host', () => {
  it('counts as starting from its disks to its agent, or until it is known not to start', async () => {
    const host = await startedHost();
    const making = { owner: ownerOf('w1'), imageDigest: IMAGE_DIGEST, resources: { vcpus: 1, memMib: 128 } };
    await host.vms.provision({ ...making, vmId: VM });
    expect(host.vms.starting).toBe(1);
    await bootVm(host, VM, 'w1');
    for (const vmId of [VM, 'def-0-0']) await host.vms.provision({ ...making, vmId });
    await host.vms.release('def-0-0', { graceMs: 0 });
    expect(host.vms.starting).toBe(0);
  });

  it('provision, boot, service, port, log, stop, release: nothing is left', async () => {
    const host = await startedHost();
    const { url, pid } = await deploy(host);
    expect(await get(url)).toMatch(/^\d+ 1$/);
    expect(await host.vms.status(VM)).toEqual({ state: 'running', pid });
    const waiting = host.services.waitExit(VM);
    const exit = await host.services.stop(VM, { graceMs: 30_000 });
    expect(exit).toMatchObject({ code: 3, signal: null });
    expect(await waiting).toEqual({ exit, tail: 'listening\nrequest 1\nbye' });
    expect(await logOf(host)).toEqual(['info listening', 'info request 1', 'warn bye']);
    const gone = host.vms.waitExit(VM);
    await host.vms.release(VM, { graceMs: 30_000 });
    expect(await gone).toMatchObject({ reason: 'guest-shutdown' });
    expect(await host.vms.status(VM)).toEqual({ state: 'gone' });
    await host.vms.release(VM, { graceMs: 0 });
  });

  it('released while a sweep finds it unattached: is not adopted again, and nothing is left', async () => {
    const host = await startedHost();
    await deploy(host);
    const [, adoption] = await Promise.all([host.vms.release(VM, { graceMs: 30_000 }), host.vms.adopt(VM)]);
    expect([adoption.adopted, host.vms.isBusy(VM), await whatIsLeft({ ...places, ports })]).toEqual([false, false, []]);
  });

  it('every step done twice is done once', async () => {
    const host = await startedHost();
    const first = await deploy(host);
    const answered = await get(first.url);
    expect(await deploy(host)).toEqual(first);
    expect((await get(first.url)).split(' ')[0]).toBe(answered.split(' ')[0]);
    await expect(host.vms.openPort({ vmId: VM, guestPort: GUEST_PORT, hostPort: 20_000 })).rejects.toMatchObject({
      code: 'CONFLICT',
    });
  });

  it('a VM id of somebody else is a conflict', async () => {
    const host = await startedHost();
    await bootVm(host, VM, 'w1');
    await expect(bootVm(host, VM, 'w2')).rejects.toMatchObject({ code: 'CONFLICT' });
  });

  it('ports: the wanted one, or PORT_IN_USE; NOT_FOUND without a VM', async () => {
    const host = await startedHost({ settings: { vmPorts: { ports: { from: 1024, to: 65_535 } } } });
    await bootVm(host, VM, 'w1');
    const busy = createServer().listen(0, '127.0.0.1');
    await once(busy, 'listening');
    const address = busy.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const ask = (hostPort: number, vmId = VM) => host.vms.openPort({ vmId, guestPort: GUEST_PORT, hostPort });
    await expect(ask(port)).rejects.toMatchObject({ code: 'PORT_IN_USE' });
    busy.close();
    await once(busy, 'close');
    ports.push(port);
    expect(await ask(port)).toEqual({ port, url: `http://127.0.0.1:${port}` });
    await expect(ask(port, 'none-0-0')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await bootVm(host, 'abd-0-0', 'w2');
    await expect(ask(port, 'abd-0-0')).rejects.toMatchObject({ code: 'PORT_IN_USE' });
  });

  it('a release ends a boot that is under way', async () => {
    const host = await startedHost();
    const resources = { vcpus: 1, memMib: 128 };
    await host.vms.provision({ vmId: VM, owner: ownerOf('w1'), imageDigest: IMAGE_DIGEST, resources });
    const boot = host.vms.boot({ vmId: VM, hostname: 'w1', deadlineMs: 60_000 });
    const failed = expect(boot).rejects.toMatchObject({ code: 'CANCELLED' });
    await host.vms.release(VM, { graceMs: 0 });
    await failed;
    expect(await driver.list()).toEqual([]);
  });

  it('a guest reaches what its policy names and nothing else, also after a restart', async () => {
    const way = await wayOut();
    const before = await startedHost(way.options);
    await bootVm(before, VM, 'w1');
    expect(await fetchIn(before, VM, 'http://svc.example/')).toBe('refused');
    await before.vms.setEgress(VM, { allow: ['svc.example:80', 'in.example:80'], privateAllowed: [] });
    expect(await fetchIn(before, VM, 'http://svc.example/')).toBe('from outside');
    expect(await fetchIn(before, VM, 'http://in.example/')).toBe('refused');
    expect(await fetchIn(before, VM, 'http://other.example/')).toBe('refused');
    expect(await fetchIn(before, VM, 'http://203.0.113.9/')).toBe('refused');
    await before.detach();
    const after = await startedHost(way.options);
    expect(await fetchIn(after, VM, 'http://svc.example/')).toBe('from outside');
    await after.vms.setEgress(VM, { allow: [], privateAllowed: [] });
    expect(await fetchIn(after, VM, 'http://svc.example/')).toBe('refused');
    expect((await logOf(after)).filter((line) => line.includes('in.example'))).toEqual([
      'warn connection to in.example:80 refused: in.example leads to a private address',
    ]);
    expect(way.asked).toEqual(['203.0.113.9:80', '203.0.113.9:80']);
    way.close();
  });

  it('an egress policy that cannot be read, or of no VM, is refused', async () => {
    const host = await startedHost();
    await bootVm(host, VM, 'w1');
    const set = (vmId: string, entry: string) => host.vms.setEgress(vmId, { allow: [entry], privateAllowed: [] });
    await expect(set(VM, 'nonsense')).rejects.toMatchObject({ code: 'SPEC_INVALID' });
    await expect(set('none-0-0', 'a.example:443')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});

describe('a host that restarts', () => {
  it('after a graceful end finds VM, port, policy and output again', async () => {
    const before = await startedHost();
    const { url, pid } = await deploy(before);
    const answered = await get(url);
    await before.detach();
    await expect(get(url)).rejects.toThrow();
    const after = await newHost();
    expect(await after.start()).toMatchObject({ adoptions: [{ vmId: VM, adopted: true }] });
    expect((await get(url)).split(' ')).toEqual([answered.split(' ')[0], '2']);
    expect(await after.vms.status(VM)).toEqual({ state: 'running', pid });
    await after.services.stop(VM, { graceMs: 30_000 });
    expect(await logOf(after)).toEqual(['info listening', 'info request 1', 'info request 2', 'warn bye']);
  });

  it('a VM whose adoption failed keeps its port, and has it again with the next sweep, whoever attached its guest', async () => {
    const before = await startedHost();
    const { url, port } = await deploy(before);
    await before.detach();
    const underneath = fakeDriverAt(places);
    let isAway = true;
    const status = async (vmId: string) => {
      if (isAway && vmId === VM) throw new Error('too many open files');
      return underneath.status(vmId);
    };
    const after = await newHost({ driver: { ...underneath, status } });
    expect(await after.start()).toMatchObject({ adoptions: [{ vmId: VM, adopted: false }] });
    await after.sweep();
    await bootVm(after, 'abd-0-0', 'w2');
    const ofAnother = after.vms.openPort({ vmId: 'abd-0-0', guestPort: GUEST_PORT, hostPort: port });
    await expect(ofAnother).rejects.toMatchObject({ code: 'PORT_IN_USE' });
    await after.vms.agent(VM);
    isAway = false;
    await after.sweep();
    expect(await get(url)).toMatch(/^\d+ 1$/);
  });

  it('after kill -9 finds them too: same pid, same port, the same requests counted on, no line twice', async () => {
    const script = fileURLToPath(new URL('../../fixtures/host-process.ts', import.meta.url));
    const child = spawn(process.execPath, [script, places.root, VM, JSON.stringify(storeOptions(store.bucket))], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ended = once(child, 'exit');
    const [line] = await once(child.stdout, 'data');
    const shape = z.object({ pid: z.number(), port: z.number(), url: z.string() });
    const { pid, port, url } = shape.parse(JSON.parse(String(line)));
    ports.push(port);
    const answered = await get(url);
    child.kill('SIGKILL');
    await ended;
    const host = await newHost();
    await host.start();
    expect((await get(url)).split(' ')).toEqual([answered.split(' ')[0], '2']);
    expect(await host.vms.status(VM)).toEqual({ state: 'running', pid });
    await host.services.stop(VM, { graceMs: 30_000 });
    expect(await logOf(host)).toEqual(['info listening', 'info request 1', 'info request 2', 'warn bye']);
  });

  it('tells how a service ended while nobody looked', async () => {
    const before = await startedHost();
    await deploy(before);
    const agent = await before.vms.agent(VM);
    const handle = await agent.attachExec('service', { manualAck: true });
    await before.logs.stop();
    await before.detach();
    await expect(handle.exit).rejects.toMatchObject({ code: 'AGENT_LOST' });
    // The host is detached; only its driver ends the service.
    const other = fakeDriverAt(places);
    const attached = await other.attach(VM, { deadlineMs: 30_000 });
    await (await attached.agent.attachExec('service', { manualAck: true })).signal('SIGTERM');
    await attached.agent.detach();
    const after = await startedHost();
    expect((await after.services.waitExit(VM)).exit).toMatchObject({ code: 3 });
    expect(await logOf(after)).toEqual(['info listening', 'warn bye']);
  });

  it('a lost channel is made anew by itself, and the service goes on', async () => {
    const host = await startedHost();
    const { url } = await deploy(host);
    const lost = await host.vms.agent(VM);
    await lost.detach();
    await lost.closed;
    expect(await get(url)).toMatch(/^\d+ 1$/);
    expect(await host.vms.agent(VM)).not.toBe(lost);
    await host.services.stop(VM, { graceMs: 30_000 });
    expect(await logOf(host)).toEqual(['info listening', 'info request 1', 'warn bye']);
  });

  it('what has ended is not adopted, and stays to be looked at', async () => {
    const before = await startedHost();
    const pid = await bootVm(before, VM, 'w1');
    await before.detach();
    process.kill(pid, 'SIGKILL');
    await before.vms.waitExit(VM);
    const after = await newHost();
    expect(await after.start()).toMatchObject({ adoptions: [{ vmId: VM, adopted: false }] });
    expect(await driver.list()).toEqual([VM]);
  });
});

describe('what a host tells others', () => {
  it('registers, serves its logs, ships them, and shows its metrics', async () => {
    const host = await newHost();
    const { url } = await host.start();
    await deploy(host);
    const entry = await store.readDocument(storeKeys.host('h1'), hostEntrySchema);
    expect(entry?.value).toMatchObject({ hostId: 'h1', url, images: [IMAGE_DIGEST], driver: 'fake/none' });
    const headers = { authorization: `Bearer ${HOST_TOKEN}` };
    await expect.poll(() => logOf(host)).toEqual(['info listening']);
    const logs = await (await fetch(`${url}/v1/workloads/w1/logs`, { headers })).json();
    expect(logs).toMatchObject({ writer: 'h1', epoch: 0, entries: [{ n: 0, message: 'listening', stage: 'deploy' }] });
    const metrics = await (await fetch(`${url}/metrics`, { headers })).text();
    expect(metrics).toContain('kiln_host_vms{role="service",attached="true"} 1');
    expect(metrics).toContain('kiln_host_driver_info{driver="fake"');
    await host.logs.ship(workloadRef('w1', 0));
    const { stream } = await store.openBlob(storeKeys.logChunk('w1', 0, 'h1', 0));
    expect(await text(stream)).toContain('"message":"listening"');
  });
});

describe('sweep', () => {
  it('leaves what is open or cannot be read', async () => {
    const host = await startedHost();
    await deploy(host);
    expect(await host.sweep()).toMatchObject({ destroyed: [], left: [], errors: [] });
    verdict = 'unreadable';
    expect(await host.sweep()).toMatchObject({ destroyed: [], left: [{ vmId: VM }] });
    expect(lookups).toBeGreaterThanOrEqual(2);
    expect(await driver.list()).toEqual([VM]);
  });

  it('destroys what is over, but no more than the brake allows', async () => {
    const host = await startedHost(sweeping({ graceMs: 0, maxDestroys: 1 }));
    await deploy(host);
    await bootVm(host, 'abd-0-0', 'w2');
    verdict = 'over';
    const first = await host.sweep();
    expect([first.destroyed.length, first.left.length]).toEqual([1, 1]);
    const second = await host.sweep();
    expect([...first.destroyed, ...second.destroyed].sort()).toEqual([VM, 'abd-0-0']);
    expect(await driver.list()).toEqual([]);
  });

  it('gives an owner that is over its grace', async () => {
    const host = await startedHost(sweeping({ graceMs: 3_600_000, maxDestroys: 5 }));
    await bootVm(host, VM, 'w1');
    verdict = 'over';
    expect(await host.sweep()).toMatchObject({ destroyed: [], left: [{ vmId: VM }] });
  });

  it('adopts what it has not in hand', async () => {
    const before = await startedHost();
    const { url } = await deploy(before);
    await before.detach();
    const after = await newHost();
    expect(await after.sweep()).toMatchObject({ adopted: [VM] });
    expect(await get(url)).toMatch(/ 1$/);
  });

  it('clears what lies about without a record, and expired reservations without a VM', async () => {
    const host = await startedHost();
    await bootVm(host, VM, 'w1');
    const hold = (id: string, ttlMs: number) =>
      host.ledger.reserve({ id, ownerWorkflowId: `workload/${id}`, resources: { vcpus: 1, memMib: 1 }, ttlMs });
    await hold('fresh-0', 3_600_000);
    await hold('abc-0', -1);
    await hold('gone-0', -1);
    await mkdir(join(places.stateDir, 'vms', 'dead-0-0'), { recursive: true });
    await writeFile(join(places.stateDir, 'vms', 'dead-0-0', 'dead-0-0.rootfs.raw'), 'disk');
    await mkdir(join(places.runtimeDir, 'dead-0-1'), { recursive: true });
    const report = await host.sweep();
    expect(report).toMatchObject({ destroyed: [], errors: [], released: ['gone-0'] });
    expect([...report.removed].sort()).toEqual(['dead-0-0', 'dead-0-1']);
    expect(await readdir(join(places.stateDir, 'vms'))).toEqual([VM]);
    expect((await host.ledger.list()).map(({ id }) => id).sort()).toEqual(['abc-0', 'fresh-0']);
  });

  it('a damaged record is left alone and named', async () => {
    const host = await startedHost();
    await bootVm(host, VM, 'w1');
    verdict = 'over';
    const file = join(places.stateDir, 'vms', VM, 'instance.json');
    await writeFile(file, '{');
    expect(await host.sweep()).toMatchObject({ destroyed: [], left: [{ vmId: VM }] });
  });
});
