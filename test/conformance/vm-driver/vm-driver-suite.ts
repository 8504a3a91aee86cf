import { chmod, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { VmSpec } from '../../../domain/vm.ts';
import type { AgentChannel } from '../../../ports/guest-agent.ts';
import type { StartedVm, VmDriver } from '../../../ports/vm-driver.ts';
import { createInstanceStore } from '../../../vmm/instance-record.ts';
import { findStrayVms } from '../../../vmm/stray-vms.ts';
import { type Places, whatIsLeft } from '../../support/host/nothing-left.ts';
import { identity } from './vm-driver-identity.ts';

export { identity };

/** A driver with what the suite needs. */
export interface DriverUnderTest {
  readonly name: string;
  /** The driver of a worker that has just started, so it knows only what is on disk. */
  open(places: Places): VmDriver;
  /** @returns a spec whose disks it has made in `directory` */
  spec(vmId: string, directory: string): Promise<VmSpec>;
  /** Ends the guest like a crash of its own kernel. */
  crashGuest(vm: StartedVm): Promise<void>;
  /** A deadline that is too short for a boot of a VM named `late-…`, and the code of its failure. */
  readonly lateMs: number;
  readonly lateCode: 'BOOT_TIMEOUT' | 'TEMPLATE_CORRUPT';
  /** Number of pauses after which the guest must still answer. */
  readonly pauses: number;
  /** Whether the cause of an exit that no worker saw can be found later. */
  readonly explainsUnseenExits: boolean;
}

const DEADLINE_MS = 60_000;
const GRACE_MS = 20_000;

/** The rules of a VM's life, for any driver. */
export function describeVmDriver(under: DriverUnderTest): void {
  let root: string;
  let places: Places;
  let driver: VmDriver;
  const made = new Set<string>();

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'kd-'));
    // The users of VMMs must be able to reach their sockets below it.
    await chmod(root, 0o711);
    places = { stateDir: join(root, 'state'), runtimeDir: join(root, 'run') };
    driver = under.open(places);
  });
  afterEach(async () => {
    for (const vmId of made) await driver.destroy(vmId);
    made.clear();
    const left = await whatIsLeft(places);
    await rm(root, { recursive: true, force: true });
    expect(left).toEqual([]);
  });

  const specOf = async (vmId: string): Promise<VmSpec> => {
    made.add(vmId);
    const directory = join(places.stateDir, 'vms', vmId);
    await mkdir(directory, { recursive: true });
    return under.spec(vmId, directory);
  };
  const prepared = async (vmId: string): Promise<string> => {
    await driver.prepare(await specOf(vmId));
    return vmId;
  };
  /** @param agent the open channel: an agent serves one channel at a time, and the driver keeps none */
  const start = (vmId: string, by = driver, agent?: AgentChannel): Promise<StartedVm> =>
    by.start(vmId, { identity: identity(vmId), deadlineMs: DEADLINE_MS, agent });
  const started = async (vmId: string): Promise<StartedVm> => start(await prepared(vmId));
  /** A dying worker loses its channels; its successor finds the VM. */
  const restartWorker = async (vm: StartedVm): Promise<VmDriver> => {
    await vm.agent.detach();
    driver = under.open(places);
    return driver;
  };
  const hostnameIn = async (vm: StartedVm): Promise<string> => {
    const handle = await vm.agent.exec({ execId: 'hostname', argv: ['uname', '-n'], cwd: '/', output: 'wait' });
    const parts: Buffer[] = [];
    for await (const piece of handle.output) if (piece.kind === 'data') parts.push(piece.data);
    expect(await handle.exit).toMatchObject({ code: 0 });
    return Buffer.concat(parts).toString().trim();
  };

  describe(`${under.name}: before a start`, () => {
    it('proves itself usable', async () => {
      expect(await driver.probe()).toMatchObject({ usable: true });
    });

    it('prepare may be repeated, and makes a record without a process', async () => {
      const spec = await specOf('a-1-1');
      await driver.prepare(spec);
      await driver.prepare(spec);
      expect(await driver.list()).toEqual(['a-1-1']);
      expect(await driver.status('a-1-1')).toEqual({ state: 'prepared' });
      expect(await driver.inspect('a-1-1')).toMatchObject({ owner: spec.owner, imageDigest: spec.imageDigest });
    });

    it('prepare for another owner is a conflict', async () => {
      const spec = await specOf('a-1-1');
      await driver.prepare(spec);
      const other = { ...spec, owner: { ...spec.owner, firstExecutionId: 'another' } };
      await expect(driver.prepare(other)).rejects.toMatchObject({ code: 'CONFLICT' });
      expect(await driver.inspect('a-1-1')).toMatchObject({ owner: spec.owner });
    });

    it('a VM that nobody made is gone, and needs nothing to be ended', async () => {
      expect(await driver.status('none-1-1')).toEqual({ state: 'gone' });
      expect(await driver.inspect('none-1-1')).toBeUndefined();
      await driver.destroy('none-1-1');
      expect(await driver.stop('none-1-1', { graceMs: 1 })).toMatchObject({ reason: 'unknown' });
      expect(await driver.waitExit('none-1-1')).toMatchObject({ reason: 'unknown' });
      await expect(start('none-1-1')).rejects.toMatchObject({ code: 'NOT_FOUND' });
      await expect(driver.attach('none-1-1', { deadlineMs: 1 })).rejects.toMatchObject({ code: 'NOT_FOUND' });
    });

    it('a VM that was stopped first is never started', async () => {
      await prepared('a-1-1');
      await driver.stop('a-1-1', { graceMs: 1 });
      await expect(start('a-1-1')).rejects.toMatchObject({ code: 'VMM_EXITED' });
      expect(await driver.status('a-1-1')).toMatchObject({ state: 'exited' });
    });

    it('a damaged record is named and hides no other VM; destroy clears it', async () => {
      await prepared('a-1-1');
      await prepared('b-1-1');
      const file = join(places.stateDir, 'vms', 'a-1-1', 'instance.json');
      await writeFile(file, '{');
      expect(await driver.list()).toEqual(['a-1-1', 'b-1-1']);
      await expect(driver.inspect('a-1-1')).rejects.toMatchObject({ code: 'INTERNAL', details: { file } });
      await expect(driver.status('a-1-1')).rejects.toMatchObject({ code: 'INTERNAL' });
      expect(await driver.status('b-1-1')).toEqual({ state: 'prepared' });
      await driver.destroy('a-1-1');
      expect(await driver.list()).toEqual(['b-1-1']);
    });
  });

  describe(`${under.name}: start and attach`, () => {
    it('a started VM runs, is configured, and is found by a second start', async () => {
      const vm = await started('a-1-1');
      expect(await hostnameIn(vm)).toBe('a-1-1');
      const again = await start('a-1-1', driver, vm.agent);
      expect(again.pid).toBe(vm.pid);
      expect(again.agent).toBe(vm.agent);
      await again.agent.ping();
      expect(await driver.status('a-1-1')).toEqual({ state: 'running', pid: vm.pid });
      expect(await driver.inspect('a-1-1')).toMatchObject({ pid: vm.pid });
    });

    it('two starts at once make one process', async () => {
      await prepared('a-1-1');
      const [first, second] = [start('a-1-1'), start('a-1-1')];
      const vm = await first;
      // The second start finds the process and waits for its agent, which still serves the first channel.
      await vm.agent.detach();
      expect((await second).pid).toBe(vm.pid);
    });

    it('the next worker finds the same VM', async () => {
      const vm = await started('a-1-1');
      const next = await restartWorker(vm);
      const found = await next.attach('a-1-1', { deadlineMs: DEADLINE_MS });
      expect(found.pid).toBe(vm.pid);
      expect(found.agent.hello.bootId).toBe(vm.agent.hello.bootId);
      const again = await start('a-1-1', next, found.agent);
      expect(again.pid).toBe(vm.pid);
    });

    it('a process that was never written down is found by its command line', async () => {
      const vm = await started('a-1-1');
      const next = await restartWorker(vm);
      await createInstanceStore(places.stateDir).update('a-1-1', ({ process: _, ...rest }) => rest);
      expect(await next.status('a-1-1')).toEqual({ state: 'running', pid: vm.pid });
      expect((await start('a-1-1', next)).pid).toBe(vm.pid);
    });

    it('a VM whose record is lost is seen as a stray, and destroyed by its name', async () => {
      const vm = await started('a-1-1');
      const next = await restartWorker(vm);
      await rm(join(places.stateDir, 'vms', 'a-1-1', 'instance.json'));
      expect(await next.list()).toEqual([]);
      expect(await findStrayVms(places)).toEqual(['a-1-1']);
      await next.destroy('a-1-1');
      expect(await findStrayVms(places)).toEqual([]);
      expect(await whatIsLeft(places)).toEqual([]);
    });

    it('a boot that takes too long fails with what was said last, for good, and leaves no process', async () => {
      await prepared('late-1-1');
      const late = { identity: identity('late-1-1'), deadlineMs: under.lateMs };
      await expect(driver.start('late-1-1', late)).rejects.toMatchObject({ code: under.lateCode });
      expect(await driver.status('late-1-1')).toMatchObject({ state: 'exited', exit: { reason: 'killed' } });
      await expect(start('late-1-1')).rejects.toMatchObject({ code: under.lateCode });
      await driver.destroy('late-1-1');
      expect(await whatIsLeft(places)).toEqual([]);
    });

    it('an abort during the start kills the VM', async () => {
      await prepared('late-1-1');
      const abort = new AbortController();
      const start = driver.start('late-1-1', {
        identity: identity('x'),
        deadlineMs: DEADLINE_MS,
        signal: abort.signal,
      });
      const failed = expect(start).rejects.toMatchObject({ code: 'CANCELLED' });
      await expect.poll(() => driver.status('late-1-1')).toMatchObject({ state: 'running' });
      abort.abort();
      await failed;
      expect(await driver.status('late-1-1')).toMatchObject({ state: 'exited', exit: { reason: 'killed' } });
    });

    it('a destroy during the start wins', async () => {
      await prepared('late-1-1');
      const failed = expect(start('late-1-1')).rejects.toMatchObject({ code: 'CANCELLED' });
      await expect.poll(() => driver.status('late-1-1')).toMatchObject({ state: 'running' });
      await driver.destroy('late-1-1');
      await failed;
      expect(await whatIsLeft(places)).toEqual([]);
    });
  });

  describe(`${under.name}: pause and resume`, () => {
    const resume = (vmId: string, by = driver, agent?: AgentChannel) =>
      by.resume(vmId, { wallClockMs: Date.now, deadlineMs: DEADLINE_MS, agent });

    it(`a guest answers after ${under.pauses} pauses in a row`, async () => {
      const vm = await started('a-1-1');
      for (let round = 0; round < under.pauses; round++) {
        await driver.pause('a-1-1');
        await resume('a-1-1', driver, vm.agent);
      }
      await vm.agent.ping();
      expect(await hostnameIn(vm)).toBe('a-1-1');
    });

    it('each may be repeated; a paused guest does nothing, and is found paused by the next worker', async () => {
      const vm = await started('a-1-1');
      await driver.pause('a-1-1');
      await driver.pause('a-1-1');
      const paused = { state: 'paused', pid: vm.pid };
      expect(await driver.status('a-1-1')).toEqual(paused);
      const next = await restartWorker(vm);
      expect(await next.status('a-1-1')).toEqual(paused);
      const again = await resume('a-1-1', next);
      expect(again.pid).toBe(vm.pid);
      await resume('a-1-1', next, again.agent);
      expect(await next.status('a-1-1')).toEqual({ state: 'running', pid: vm.pid });
      expect(await hostnameIn(again)).toBe('a-1-1');
    });

    it('a paused VM is stopped and destroyed like any other', async () => {
      await started('a-1-1');
      await driver.pause('a-1-1');
      expect(await driver.stop('a-1-1', { graceMs: 0 })).toMatchObject({ reason: 'killed' });
      await expect(driver.pause('a-1-1')).rejects.toMatchObject({ code: 'VMM_EXITED' });
      await expect(resume('a-1-1')).rejects.toMatchObject({ code: 'VMM_EXITED' });
      await started('b-1-1');
      await driver.pause('b-1-1');
      await driver.destroy('b-1-1');
    });

    it('of what is not there, or was never started, is NOT_FOUND', async () => {
      await prepared('a-1-1');
      for (const vmId of ['a-1-1', 'none-1-1']) {
        await expect(driver.pause(vmId)).rejects.toMatchObject({ code: 'NOT_FOUND' });
        await expect(resume(vmId)).rejects.toMatchObject({ code: 'NOT_FOUND' });
      }
    });

    it('a VM that is started without an identity is given one later', async () => {
      await prepared('a-1-1');
      const vm = await driver.start('a-1-1', { deadlineMs: DEADLINE_MS });
      await driver.pause('a-1-1');
      await resume('a-1-1', driver, vm.agent);
      await vm.agent.configure(identity('named-later'));
      expect(await hostnameIn(vm)).toBe('named-later');
    });
  });

  describe(`${under.name}: ends`, () => {
    it('a stop lets the guest shut down; it may be repeated, and keeps the files', async () => {
      const vm = await started('a-1-1');
      const exit = driver.waitExit('a-1-1');
      const stopped = await driver.stop('a-1-1', { graceMs: GRACE_MS, agent: vm.agent });
      expect(stopped).toMatchObject({ reason: 'guest-shutdown', code: 0 });
      expect(await exit).toEqual(stopped);
      expect(await driver.stop('a-1-1', { graceMs: 1 })).toEqual(stopped);
      expect(await driver.status('a-1-1')).toEqual({ state: 'exited', exit: stopped });
      await expect(stat(`/proc/${vm.pid}`)).rejects.toMatchObject({ code: 'ENOENT' });
      expect(await readFile(join(places.stateDir, 'vms', 'a-1-1', 'instance.json'), 'utf8')).toContain(
        'guest-shutdown',
      );
      await expect(start('a-1-1')).rejects.toMatchObject({ code: 'VMM_EXITED' });
    });

    it('the next worker can stop what the last one started', async () => {
      const next = await restartWorker(await started('a-1-1'));
      expect(await next.stop('a-1-1', { graceMs: GRACE_MS })).toMatchObject({ reason: 'guest-shutdown' });
    });

    it('a stop without grace kills', async () => {
      await started('a-1-1');
      expect(await driver.stop('a-1-1', { graceMs: 0 })).toMatchObject({ reason: 'killed' });
    });

    it('kill -9 of the VMM is seen, and told as that', async () => {
      const vm = await started('a-1-1');
      const exit = driver.waitExit('a-1-1');
      process.kill(vm.pid, 'SIGKILL');
      expect(await exit).toMatchObject({ reason: 'killed', signal: 'SIGKILL' });
      expect((await vm.agent.closed).message).not.toBe('');
      await expect(driver.attach('a-1-1', { deadlineMs: DEADLINE_MS })).rejects.toMatchObject({ code: 'VMM_EXITED' });
      await expect(start('a-1-1')).rejects.toMatchObject({ code: 'VMM_EXITED' });
    });

    it('kill -9 of an adopted VMM is seen as well', async () => {
      const vm = await started('a-1-1');
      const next = await restartWorker(vm);
      const exit = next.waitExit('a-1-1');
      process.kill(vm.pid, 'SIGKILL');
      expect(['killed', 'unknown']).toContain((await exit).reason);
      expect(await next.status('a-1-1')).toEqual({ state: 'exited', exit: await exit });
    });

    it('a guest that crashes is told from one that shut down', async () => {
      const vm = await started('a-1-1');
      const exit = driver.waitExit('a-1-1');
      await under.crashGuest(vm);
      expect(await exit).toMatchObject({ reason: 'guest-panic' });
      await expect(start('a-1-1')).rejects.toMatchObject({ code: 'GUEST_CRASHED' });
    });

    it('a crash that no worker saw is found afterwards', async () => {
      const vm = await started('a-1-1');
      const gone = driver.waitExit('a-1-1').then(() => createInstanceStore(places.stateDir));
      await under.crashGuest(vm);
      // As if no worker had seen it: the record says that the VM runs, and the process is no child of the next worker.
      await (await gone).update('a-1-1', ({ exit: _, ...rest }) => rest);
      driver = under.open(places);
      const exit = await driver.waitExit('a-1-1');
      expect(exit.reason).toBe(under.explainsUnseenExits ? 'guest-panic' : 'unknown');
    });

    it('a wait that is given up does not disturb the VM', async () => {
      const vm = await started('a-1-1');
      const abort = new AbortController();
      const waiting = expect(driver.waitExit('a-1-1', { signal: abort.signal })).rejects.toMatchObject({
        code: 'CANCELLED',
      });
      abort.abort();
      await waiting;
      await vm.agent.ping();
    });

    it('a destroyed VM leaves no process, socket or file, and may be destroyed again', async () => {
      const vm = await started('a-1-1');
      await driver.destroy('a-1-1');
      await driver.destroy('a-1-1');
      await expect(stat(`/proc/${vm.pid}`)).rejects.toMatchObject({ code: 'ENOENT' });
      expect(await whatIsLeft(places)).toEqual([]);
      expect(await driver.status('a-1-1')).toEqual({ state: 'gone' });
    });

    it('a pid that now belongs to somebody else is left alone', async () => {
      await prepared('a-1-1');
      const bootId = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
      const stranger = { pid: process.pid, startTicks: '1', hostBootId: bootId };
      await createInstanceStore(places.stateDir).update('a-1-1', (record) => ({ ...record, process: stranger }));
      expect(await driver.status('a-1-1')).toMatchObject({ state: 'exited' });
      await driver.destroy('a-1-1');
    });
  });
}
