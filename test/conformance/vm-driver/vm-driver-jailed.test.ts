/** The rules of a VM's life hold also for a program that confines itself and needs a greeting to reach the agent. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readProcess } from '../../../linux/process-identity.ts';
import { createInstanceStore } from '../../../vmm/instance-record.ts';
import { commandLines } from '../../../vmm/vm-process.ts';
import { agentBinary } from '../../support/guest/agent-binary.ts';
import { machineLimits } from '../../support/host/group-limits.ts';
import { createJailedDriver, JAILED_UID } from '../../support/host/jailed-driver.ts';
import { type Places, whatIsLeft } from '../../support/host/nothing-left.ts';
import { plainVmSpec, silentLog } from '../../support/host/vm-fixtures.ts';
import { identity } from './vm-driver-identity.ts';
import { describeVmDriver } from './vm-driver-suite.ts';

const agent = await agentBinary();

const optionsAt = ({ stateDir, runtimeDir }: Places) => ({
  stateDir,
  runtimeDir,
  allowFake: true,
  agentBinary: agent,
  asRoot: process.getuid?.() === 0,
  log: silentLog,
  timings: { pollMs: 10 },
  faultOf: (vmId: string) => (vmId.startsWith('late-') ? ({ kind: 'silent' } as const) : undefined),
});

describeVmDriver({
  name: 'a driver of VMs in jails',
  open: (places) => createJailedDriver(optionsAt(places)),
  spec: async (vmId) => plainVmSpec(vmId),
  async crashGuest(vm) {
    for (const pid of await agentsBelow(vm.pid)) process.kill(pid, 'SIGQUIT');
  },
  lateMs: 200,
  lateCode: 'BOOT_TIMEOUT',
  pauses: 20,
  explainsUnseenExits: false,
});

/** The agent is a child of the process that made its namespaces, which is a child of the jail. */
async function agentsBelow(jail: number): Promise<number[]> {
  const all = await Promise.all(
    (await commandLines()).map(async ({ pid }) => ({ pid, parent: (await readProcess(pid))?.parentPid })),
  );
  const childrenOf = (parents: readonly number[]) =>
    all.filter(({ parent }) => parent !== undefined && parents.includes(parent)).map(({ pid }) => pid);
  return childrenOf(childrenOf([jail]));
}

describe('a VM whose program confines itself', () => {
  it('is started as this worker, told its control groups, and found in them', async () => {
    const root = await mkdtemp(join(tmpdir(), 'kd-'));
    const places = { stateDir: join(root, 'state'), runtimeDir: join(root, 'run') };
    const driver = createJailedDriver({ ...optionsAt(places), limits: await machineLimits(places.stateDir) });
    await driver.prepare(plainVmSpec('a-1-1'));
    const { pid } = await driver.start('a-1-1', { identity: identity('a-1-1'), deadlineMs: 60_000 });
    const record = await createInstanceStore(places.stateDir).read('a-1-1');
    expect(record).toMatchObject({ uid: JAILED_UID, sockets: { inner: expect.stringContaining('inner.sock') } });
    expect(await readFile(`/proc/${pid}/status`, 'utf8')).toContain(`Uid:\t${process.getuid?.()}\t`);
    expect(await driver.usage('a-1-1')).toMatchObject({ source: 'cgroup' });
    expect(await driver.listGroups()).toEqual(['a-1-1']);
    await driver.destroy('a-1-1');
    const left = await whatIsLeft(places);
    await rm(root, { recursive: true, force: true });
    expect(left).toEqual([]);
  });
});
