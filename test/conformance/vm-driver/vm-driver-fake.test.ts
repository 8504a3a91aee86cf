import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { readProcess } from '../../../linux/process-identity.ts';
import { createFakeDriver, type FakeDriverOptions } from '../../../vmm/fake/fake-driver.ts';
import { markOf, namesAgentSocket } from '../../../vmm/vm-marks.ts';
import { findVmProcesses } from '../../../vmm/vm-process.ts';
import { agentBinary } from '../../support/guest/agent-binary.ts';
import { type Places, whatIsLeft } from '../../support/host/nothing-left.ts';
import { plainVmSpec, silentLog } from '../../support/host/vm-fixtures.ts';
import { identity } from './vm-driver-identity.ts';
import { describeVmDriver } from './vm-driver-suite.ts';

const agent = await agentBinary();

const optionsAt = (places: Places): FakeDriverOptions => ({
  stateDir: places.stateDir,
  runtimeDir: places.runtimeDir,
  allowFake: true,
  agentBinary: agent,
  asRoot: process.getuid?.() === 0,
  log: silentLog,
  timings: { pollMs: 10 },
  faultOf: (vmId) => (vmId.startsWith('late-') ? { kind: 'silent' } : undefined),
});

describeVmDriver({
  name: 'fake driver',
  open: (places) => createFakeDriver(optionsAt(places)),
  spec: async (vmId) => plainVmSpec(vmId),
  async crashGuest(vm) {
    // The agent is a child of the process that made its namespaces. SIGQUIT ends a Go program with code 2.
    for (const { pid } of await childrenOf(vm.pid)) process.kill(pid, 'SIGQUIT');
  },
  lateMs: 200,
  lateCode: 'BOOT_TIMEOUT',
  pauses: 20,
  explainsUnseenExits: false,
});

async function childrenOf(parent: number): Promise<{ pid: number }[]> {
  const words = (await readFile(`/proc/${parent}/cmdline`, 'utf8')).split('\0');
  const socket = words.find((word) => word.startsWith('unix:'))?.slice('unix:'.length) ?? '';
  const found = await findVmProcesses((argv) => namesAgentSocket(markOf({ agentSocket: socket }), argv));
  const children: { pid: number }[] = [];
  for (const one of found) if ((await readProcess(one.pid))?.parentPid === parent) children.push(one);
  return children;
}

/** Longer than any test. */
const FOR_EVER_MS = 3_600_000;
const HOSTILE_AGENT = fileURLToPath(new URL('../../fixtures/hostile-agent.ts', import.meta.url));

/** @returns a driver whose guests say hello and then misbehave as `how` says */
async function withAgentThat(how: string) {
  const root = await mkdtemp(join(tmpdir(), 'kd-'));
  onTestFinished(() => rm(root, { recursive: true, force: true }));
  const places = { stateDir: join(root, 'state'), runtimeDir: join(root, 'run') };
  const argv = [process.execPath, HOSTILE_AGENT, '--how', how];
  const timings = { pollMs: 10, requestMs: FOR_EVER_MS };
  const driver = createFakeDriver({ ...optionsAt(places), faultOf: () => ({ kind: 'instead', argv }), timings });
  await driver.prepare(plainVmSpec('a-1-1'));
  return { driver, places };
}

describe('a start whose guest has said hello and is being configured', () => {
  it('is told of the end of the VMM, not of the channel that broke with it', async () => {
    const { driver, places } = await withAgentThat('dies-when-asked');
    const start = driver.start('a-1-1', { identity: identity('a-1-1'), deadlineMs: 60_000 });
    await expect(start).rejects.toMatchObject({ code: 'GUEST_CRASHED' });
    expect(await driver.status('a-1-1')).toMatchObject({ state: 'exited', exit: { reason: 'guest-panic', code: 7 } });
    await driver.destroy('a-1-1');
    expect(await whatIsLeft(places)).toEqual([]);
  });

  it('is given up where it is aborted, however long it might take', async () => {
    const { driver, places } = await withAgentThat('silence');
    const abort = new AbortController();
    const start = driver.start('a-1-1', { identity: identity('a-1-1'), deadlineMs: FOR_EVER_MS, signal: abort.signal });
    const failed = expect(start).rejects.toMatchObject({ code: 'CANCELLED' });
    const said = () => readFile(join(places.stateDir, 'vms', 'a-1-1', 'vmm.log'), 'utf8').catch(() => '');
    while (!(await said()).includes('asked')) await delay(10);
    abort.abort();
    await failed;
    await driver.destroy('a-1-1');
    expect(await whatIsLeft(places)).toEqual([]);
  });
});

describe('fake driver', () => {
  it('is refused where it was not asked for', () => {
    const options = { ...optionsAt({ stateDir: '/s', runtimeDir: '/r' }), allowFake: false };
    expect(() => createFakeDriver(options)).toThrow(expect.objectContaining({ code: 'UNSUPPORTED' }));
  });

  it('a guest that dies during its boot is told from one that is late', async () => {
    const root = await mkdtemp(join(tmpdir(), 'kd-'));
    onTestFinished(() => rm(root, { recursive: true, force: true }));
    const places = { stateDir: join(root, 'state'), runtimeDir: join(root, 'run') };
    const driver = createFakeDriver({ ...optionsAt(places), faultOf: () => ({ kind: 'dies', afterMs: 1, code: 7 }) });
    await driver.prepare(plainVmSpec('a-1-1'));
    const start = driver.start('a-1-1', { identity: identity('a-1-1'), deadlineMs: 60_000 });
    await expect(start).rejects.toMatchObject({
      code: 'GUEST_CRASHED',
      message: expect.stringContaining('dies as told'),
    });
    expect(await driver.status('a-1-1')).toMatchObject({ state: 'exited', exit: { reason: 'guest-panic', code: 7 } });
    await driver.destroy('a-1-1');
    expect(await whatIsLeft(places)).toEqual([]);
  });
});
