import { randomUUID } from 'node:crypto';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { repetitions } from '../../config/test-environment.ts';
import type { StartedVm } from '../../ports/vm-driver.ts';
import { createInstanceStore } from '../../vmm/instance-record.ts';
import { trialBoot } from '../../vmm/qemu/kvm-trial.ts';
import { createQemuDriver, type QemuDriverOptions } from '../../vmm/qemu/qemu-driver.ts';
import { qemuPaths } from '../../vmm/qemu/qemu-paths.ts';
import { vmPaths } from '../../vmm/vm-paths.ts';
import { identity } from '../conformance/vm-driver/vm-driver-identity.ts';
import { describeVmDriver } from '../conformance/vm-driver/vm-driver-suite.ts';
import { type FrozenGuest, freezeGuest } from '../support/guest/frozen-guest.ts';
import { type Places, whatIsLeft } from '../support/host/nothing-left.ts';
import { imageVmSpec, silentLog, testTscRate, vmUsers } from '../support/host/vm-fixtures.ts';

const DEADLINE_MS = 60_000;
const PAUSES = repetitions({ usually: 50, whole: 1_000 });

const optionsAt = ({ stateDir, runtimeDir }: Places): QemuDriverOptions => ({
  stateDir,
  runtimeDir,
  log: silentLog,
  tscKhz: testTscRate,
  accel: 'tcg',
  ...vmUsers(stateDir),
});

const qemu = {
  open: (places: Places) => createQemuDriver(optionsAt(places)),
  async crashGuest(vm: StartedVm) {
    const argv = ['sh', '-c', 'echo c > /proc/sysrq-trigger'];
    // The guest crashes before it can answer.
    await vm.agent.exec({ execId: 'crash', argv, cwd: '/', output: 'wait' }).catch(() => undefined);
  },
  explainsUnseenExits: true,
} as const;

describeVmDriver({
  ...qemu,
  name: 'QEMU driver',
  spec: imageVmSpec,
  lateMs: 100,
  lateCode: 'BOOT_TIMEOUT',
  pauses: PAUSES,
});

describe('from a template', () => {
  let template: FrozenGuest;
  beforeAll(async () => {
    template = await freezeGuest();
  });
  afterAll(() => template.remove());

  describeVmDriver({
    ...qemu,
    name: 'QEMU driver, from a template',
    spec: (vmId, directory) => template.cloneSpec(vmId, directory),
    lateMs: 1,
    lateCode: 'TEMPLATE_CORRUPT',
    pauses: PAUSES,
  });
});

describe('QEMU guest', () => {
  let root: string;
  let places: Places;
  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'kd-'));
    await chmod(root, 0o711);
    places = { stateDir: join(root, 'state'), runtimeDir: join(root, 'run') };
  });
  afterEach(async () => {
    await createQemuDriver(optionsAt(places)).destroy('a-1-1');
    const left = await whatIsLeft(places);
    await rm(root, { recursive: true, force: true });
    expect(left).toEqual([]);
  });

  const started = async (more: Partial<QemuDriverOptions> = {}): Promise<StartedVm> => {
    const driver = createQemuDriver({ ...optionsAt(places), ...more });
    const directory = join(places.stateDir, 'vms', 'a-1-1');
    await mkdir(directory, { recursive: true });
    await driver.prepare(await imageVmSpec('a-1-1', directory));
    return driver.start('a-1-1', { identity: identity('a-1-1'), deadlineMs: DEADLINE_MS });
  };
  const printed = async (vm: StartedVm, script: string): Promise<string> => {
    const handle = await vm.agent.exec({ execId: randomUUID(), argv: ['sh', '-c', script], cwd: '/', output: 'wait' });
    let text = '';
    for await (const piece of handle.output) if (piece.kind === 'data') text += piece.data.toString();
    return text.trim();
  };

  it('has no network but its own loopback, and runs the image with the kernel of the image', async () => {
    const vm = await started();
    expect(await printed(vm, 'ls /sys/class/net')).toBe('lo');
    expect(await printed(vm, 'uname -r')).toContain('cloud-amd64');
    expect(await printed(vm, 'findmnt -no FSTYPE / || stat -f -c %T /')).toMatch(/ext/);
  });

  it('keeps its time by the TSC, however busy the host was during the boot', async () => {
    const vm = await started();
    // The kernel decides within the first seconds; which clock it uses is certain only after that.
    await expect
      .poll(() => printed(vm, 'dmesg | grep -c "Switched to clocksource tsc$"; true'), { timeout: 60_000 })
      .toBe('1');
    expect(await printed(vm, 'cat /sys/devices/system/clocksource/clocksource0/current_clocksource')).toBe('tsc');
  });

  it('runs in a VMM with a seccomp filter, in a process group of its own, without the environment of the worker', async () => {
    const { pid } = await started();
    expect(await readFile(`/proc/${pid}/status`, 'utf8')).toMatch(/^Seccomp:\t2$/m);
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    expect(stat.slice(stat.lastIndexOf(')')).split(' ')[3]).toBe(`${pid}`);
    const environment = await readFile(`/proc/${pid}/environ`, 'utf8');
    expect(environment.split('\0').filter((entry) => entry !== '' && !entry.startsWith('PATH='))).toEqual([]);
  });

  it('cannot fill the disk of the host with its console', async () => {
    const maxLogBytes = 64 * 1024;
    const vm = await started({ maxLogBytes, timings: { logCheckMs: 20 } });
    const log = join(places.stateDir, 'vms', 'a-1-1', 'console.log');
    const flood = printed(vm, 'head -c 150000 /dev/zero | tr "\\\\0" x > /dev/ttyS0');
    await expect.poll(async () => (await stat(log)).size, { timeout: 60_000, interval: 1 }).toBeGreaterThan(0);
    await flood;
    await expect.poll(async () => (await stat(log)).blocks * 512).toBeLessThanOrEqual(maxLogBytes);
  });

  it('a trial boots the disks of a VM without changing them, and leaves nothing', async () => {
    const driver = createQemuDriver(optionsAt(places));
    const directory = join(places.stateDir, 'vms', 'a-1-1');
    await mkdir(directory, { recursive: true });
    await driver.prepare(await imageVmSpec('a-1-1', directory));
    const record = await createInstanceStore(places.stateDir).read('a-1-1');
    if (record === undefined) throw new Error('the VM was prepared');
    const disks = () => Promise.all(record.drives.map(async ({ path }) => (await readFile(path)).toString('base64')));
    const before = await disks();
    const files = await readdir(directory);
    const machine = {
      binary: 'qemu-system-x86_64',
      accel: 'tcg',
      tbSizeMib: 256,
      tscKhz: await testTscRate(),
    } as const;
    const { signal } = new AbortController();
    const paths = qemuPaths(record, vmPaths(places, 'a-1-1'));
    await trialBoot(record, paths, { machine, deadlineMs: DEADLINE_MS, signal });
    const hopeless = trialBoot(record, paths, { machine, deadlineMs: 1, signal });
    await expect(hopeless).rejects.toMatchObject({ code: 'AGENT_TIMEOUT' });
    expect(await disks()).toEqual(before);
    expect(await readdir(directory)).toEqual(files);
    expect(await driver.status('a-1-1')).toEqual({ state: 'prepared' });
  });

  it('under a KVM that boots no guest falls back to software emulation, and says so', async () => {
    const said: string[] = [];
    const log = { ...silentLog, info: (_: object, message: string) => said.push(message) };
    const vm = await started({ accel: 'auto', kvmTrial: { ignorePvm: true }, log });
    const words = (await readFile(`/proc/${vm.pid}/cmdline`, 'utf8')).split('\0');
    const accel = words[words.indexOf('-accel') + 1];
    // If KVM works on this machine, the trial shows that. In both cases the guest boots, and use of tcg is reported.
    if (accel === 'kvm') expect(said.join()).not.toContain('software emulation');
    else
      expect(said.join()).toMatch(
        /software emulation: kvm (trial guest did not boot|absent|denied|busy|no-cpu-support)/,
      );
  });
});
