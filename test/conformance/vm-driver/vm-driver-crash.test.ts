import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createFakeDriver } from '../../../vmm/fake/fake-driver.ts';
import { createInstanceStore } from '../../../vmm/instance-record.ts';
import { markOf, namesAgentSocket } from '../../../vmm/vm-marks.ts';
import { findVmProcesses } from '../../../vmm/vm-process.ts';
import { agentBinary } from '../../support/guest/agent-binary.ts';
import { machineLimits } from '../../support/host/group-limits.ts';
import { type Places, whatIsLeft } from '../../support/host/nothing-left.ts';
import { plainVmSpec, silentLog } from '../../support/host/vm-fixtures.ts';
import { identity } from './vm-driver-identity.ts';

const VM_ID = 'crash-1-1';
const worker = fileURLToPath(new URL('start-vm-worker.ts', import.meta.url));
const agent = await agentBinary();

let root: string;
let places: Places;
let child: ChildProcess | undefined;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'kd-'));
  places = { stateDir: join(root, 'state'), runtimeDir: join(root, 'run') };
});
afterEach(async () => {
  if (child !== undefined) await kill(child);
  await (await openDriver()).destroy(VM_ID);
  await rm(root, { recursive: true, force: true });
});

const openDriver = async () =>
  createFakeDriver({
    ...places,
    allowFake: true,
    agentBinary: agent,
    asRoot: process.getuid?.() === 0,
    log: silentLog,
    limits: await machineLimits(places.stateDir),
    timings: { pollMs: 10 },
  });

function startWorker(): ChildProcess {
  const argument = JSON.stringify({ ...places, agentBinary: agent, vmId: VM_ID });
  return spawn(process.execPath, [worker, argument], { stdio: ['ignore', 'pipe', 'inherit'] });
}

async function kill(child: ChildProcess): Promise<void> {
  child.kill('SIGKILL');
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
}

const vmDirectory = () => join(places.stateDir, 'vms', VM_ID);
const processes = () => {
  const mark = markOf({ agentSocket: join(places.runtimeDir, VM_ID, 'agent.sock') });
  return findVmProcesses((argv) => namesAgentSocket(mark, argv));
};

const patient = { timeout: 60_000, interval: 1 };

/** Moments during a start; at each, the disk and the process table have different contents. */
const MOMENTS: [string, (child: ChildProcess) => Promise<unknown>][] = [
  ['when the directory is there', () => expect.poll(() => existsSync(vmDirectory()), patient).toBe(true)],
  [
    'when the record is there',
    () => expect.poll(() => createInstanceStore(places.stateDir).list(), patient).toEqual([VM_ID]),
  ],
  ['as soon as the process is there', () => expect.poll(processes, patient).not.toEqual([])],
  ['when the VM runs', (child) => once(child.stdout ?? child, 'data')],
];

describe.each(MOMENTS)('a worker that is killed %s', (_, moment) => {
  it('leaves a VM that its successor starts or finds, and one process at most', async () => {
    child = startWorker();
    await moment(child);
    await kill(child);
    const before = await processes();
    const driver = await openDriver();
    await driver.prepare(plainVmSpec(VM_ID));
    const vm = await driver.start(VM_ID, { identity: identity(VM_ID), deadlineMs: 60_000 });
    await vm.agent.ping();
    if (before.length > 0) expect(before.map(({ pid }) => pid)).toContain(vm.pid);
    expect(await driver.status(VM_ID)).toEqual({ state: 'running', pid: vm.pid });
    await driver.destroy(VM_ID);
    expect(await whatIsLeft(places)).toEqual([]);
  });

  it('leaves nothing after a destroy', async () => {
    child = startWorker();
    await moment(child);
    await kill(child);
    await (await openDriver()).destroy(VM_ID);
    expect(await whatIsLeft(places)).toEqual([]);
  });
});
