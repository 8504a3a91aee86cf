/** Control groups of this machine, on a host: they come and go with the VMs, and a sweep removes those left behind. */
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { readSetupRecord } from '../../../config/setup-record.ts';
import type { Host } from '../../../host/host.ts';
import { createFakeDriver } from '../../../vmm/fake/fake-driver.ts';
import { createInstanceStore } from '../../../vmm/instance-record.ts';
import { directoriesOf } from '../../../vmm/limits/control-groups.ts';
import { readGroupRecord } from '../../../vmm/limits/group-record.ts';
import type { VmLimits } from '../../../vmm/limits/vm-limits.ts';
import { bootVm, createFakeHost, type FakeHostPlaces, placesBelow } from '../../support/host/fake-host.ts';
import { machineLimits } from '../../support/host/group-limits.ts';
import { whatIsLeft } from '../../support/host/nothing-left.ts';
import { freshObjectStore } from '../../support/servers/object-store.ts';
import { silentLogger } from '../../support/workers/silent-logger.ts';

let places: FakeHostPlaces;
let limits: VmLimits;
let host: Host;
let close: () => Promise<void>;

beforeEach(async () => {
  places = placesBelow(await mkdtemp(join(tmpdir(), 'kg-')));
  await mkdir(places.runtimeDir, { recursive: true });
  limits = await machineLimits(places.stateDir);
  const store = await freshObjectStore();
  const driver = createFakeDriver({
    ...places,
    limits,
    allowFake: true,
    agentBinary: readSetupRecord().agent.path,
    asRoot: process.getuid?.() === 0,
    log: silentLogger,
    timings: { pollMs: 10 },
  });
  host = await createFakeHost(places, { store, owners: { lookup: async () => 'open' }, driver });
  await host.start();
  close = async () => {
    await host.detach();
    store.close();
  };
});
afterEach(async () => {
  await host.vms.release('a-1-1', { graceMs: 0 });
  await close();
  const left = await whatIsLeft(places);
  await rm(places.root, { recursive: true, force: true });
  expect(left).toEqual([]);
});

it('a VM with all its processes is in its group, measured by it, and the group goes with it', async () => {
  const pid = await bootVm(host, 'a-1-1', 'w1');
  const group = await readGroupRecord(createInstanceStore(places.stateDir).directory('a-1-1'));
  for (const directory of group === undefined ? [] : directoriesOf(group)) {
    expect((await readFile(join(directory, 'cgroup.procs'), 'utf8')).split('\n')).toContain(String(pid));
  }
  expect(await host.metrics.registry.metrics()).toMatch(/kiln_host_workload_vm_memory_bytes{[^}]*kind="limit"} \d/);
  expect(await limits.list()).toEqual(['a-1-1']);
  await host.vms.release('a-1-1', { graceMs: 0 });
  expect(await limits.list()).toEqual([]);
});

it('a group that no record names is removed by the sweep, and one whose VM lives is not', async () => {
  await bootVm(host, 'a-1-1', 'w1');
  const record = await createInstanceStore(places.stateDir).read('a-1-1');
  if (record === undefined) throw new Error('the VM has no record');
  // As left by a worker that dies between the two steps.
  const elsewhere = await mkdtemp(join(tmpdir(), 'kg-record-'));
  await limits.launch({ ...record, vmId: 'stray-1-1' }, { argv: ['true'] }, elsewhere);
  expect(await limits.list()).toEqual(['a-1-1', 'stray-1-1']);
  expect((await host.sweep()).removed).toEqual(['stray-1-1']);
  expect(await limits.list()).toEqual(['a-1-1']);
  await rm(elsewhere, { recursive: true });
});
