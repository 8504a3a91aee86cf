import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { hostBootId, identify } from '../../../linux/process-identity.ts';
import {
  directoriesOf,
  type GroupTree,
  groupOf,
  listGroups,
  makeGroup,
  readGroup,
  removeGroup,
} from '../../../vmm/limits/control-groups.ts';
import { findGroups } from '../../../vmm/limits/find-groups.ts';
import { DEFAULT_CAP_SETTINGS, groupCaps } from '../../../vmm/limits/group-caps.ts';
import { CGROUP1, CGROUP2 } from '../../../vmm/limits/group-layout.ts';
import { explainByMemory } from '../../../vmm/limits/group-limits.ts';
import { ownLegacyGroup, ownUnifiedGroup } from '../../../vmm/limits/group-mounts.ts';
import { readGroupRecord, writeGroupRecord } from '../../../vmm/limits/group-record.ts';
import { deviceNumbers } from '../../../vmm/limits/io-device.ts';
import { launchInGroup } from '../../../vmm/limits/launch-in-group.ts';
import { hostGroupName, openLimits } from '../../../vmm/limits/open-limits.ts';
import { parseCpuMs, parseKib, processUsage } from '../../../vmm/limits/process-usage.ts';

const run = promisify(execFile);
const MIB = 1024 * 1024;
const TIMES = { pollMs: 1, timeoutMs: 1_000 };

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'kiln-groups-'));
});
afterEach(() => rm(root, { recursive: true }));

const text = (...path: string[]) => readFile(join(root, ...path), 'utf8');

describe('the caps of a VM', () => {
  it('are its vCPUs, its memory and what the VMM needs beside them', () => {
    expect(groupCaps({ vcpus: 2, memMib: 512 }, DEFAULT_CAP_SETTINGS)).toEqual({
      cores: 2.25,
      claim: 2,
      memoryBytes: 828 * MIB,
      pids: 130,
    });
  });

  it('are spelt as each generation of control groups wants them', () => {
    const io = { device: '8:0', bytesPerSecond: 1000 };
    const caps = groupCaps({ vcpus: 1, memMib: 184 }, DEFAULT_CAP_SETTINGS, io);
    const spelt = (layout: typeof CGROUP1) =>
      Object.fromEntries(layout.knobs(caps).map(({ file, value }) => [file, value]));
    expect(spelt(CGROUP2)).toEqual({
      'cpu.max': '125000 100000',
      'cpu.weight': '100',
      'memory.max': String(500 * MIB),
      'memory.swap.max': '0',
      'memory.oom.group': '1',
      'pids.max': '129',
      'io.max': '8:0 rbps=1000 wbps=1000',
    });
    expect(spelt(CGROUP1)).toMatchObject({
      'cpu.cfs_quota_us': '125000',
      'memory.limit_in_bytes': String(500 * MIB),
      'blkio.throttle.read_bps_device': '8:0 1000',
    });
  });
});

describe('where this process stands', () => {
  const V2 = '30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate';
  const V1 = [
    '31 25 0:27 / /sys/fs/cgroup/cpu\\040acct rw - cgroup cgroup rw,cpu,cpuacct',
    '32 25 0:28 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory',
  ].join('\n');
  const CGROUP = '5:cpu,cpuacct:/job\n4:memory:/docker/abc/x\n0::/system.slice/kiln.service\n';

  it('is found in the unified hierarchy, and in the one that has a controller', () => {
    expect(ownUnifiedGroup(V2, CGROUP)?.directory).toBe('/sys/fs/cgroup/system.slice/kiln.service');
    expect(ownLegacyGroup(V1, CGROUP, 'cpu')?.directory).toBe('/sys/fs/cgroup/cpu acct/job');
    expect(ownLegacyGroup(V1, CGROUP, 'memory')?.directory).toBe('/sys/fs/cgroup/memory/x');
    expect(ownLegacyGroup(V1, CGROUP, 'pids')).toBeUndefined();
    expect(ownUnifiedGroup(V1, CGROUP)).toBeUndefined();
  });
});

describe('groups below a directory', () => {
  const tree = (): GroupTree => ({
    layout: CGROUP2,
    roots: { cpu: root, memory: root, pids: root },
    hostName: hostGroupName('/some/state'),
  });
  /** The kernel removes the files of a control group with it; in a plain folder they must be deleted. */
  const remove = (directory: string) => rm(directory, { recursive: true });

  const keepFolder = async (directory: string) => {
    if (directory.endsWith(hostGroupName('/some/state'))) throw Object.assign(new Error('busy'), { code: 'ENOTEMPTY' });
    await remove(directory);
  };

  it('are made with their caps, found, read and removed, each step twice', async () => {
    const caps = groupCaps({ vcpus: 1, memMib: 256 }, DEFAULT_CAP_SETTINGS);
    for (const _ of [1, 2]) await makeGroup(tree(), 'a-1-1', caps);
    const { hostName } = tree();
    expect(await text('cgroup.subtree_control')).toBe('+cpu +memory +pids');
    expect(await text(hostName, 'cgroup.subtree_control')).toBe('+cpu +memory +pids');
    expect(await text(hostName, 'a-1-1', 'memory.max')).toBe(String(572 * MIB));
    expect(await listGroups(tree())).toEqual(['a-1-1']);
    // The weight of the parent group is the sum of the weights of its VMs.
    await makeGroup(tree(), 'b-1-1', groupCaps({ vcpus: 3, memMib: 256 }, DEFAULT_CAP_SETTINGS));
    expect(await text(hostName, 'cpu.weight')).toBe('400');
    await rm(join(root, hostName, 'cpu.weight'));
    await removeGroup(groupOf(tree(), 'b-1-1'), { ...TIMES, remove: keepFolder });
    expect(await text(hostName, 'cpu.weight')).toBe('100');
    const group = groupOf(tree(), 'a-1-1');
    await writeFile(
      join(root, hostName, 'a-1-1', 'memory.events'),
      'low 0\nmax 3\noom 1\noom_kill 1\noom_group_kill 1\n',
    );
    await writeFile(join(root, hostName, 'a-1-1', 'cpu.stat'), 'usage_usec 1234567\nuser_usec 1\n');
    expect(await readGroup(CGROUP2, group)).toEqual({
      cpuMs: 1235,
      memoryLimitBytes: 572 * MIB,
      oomKills: 1,
      limitHits: 1,
    });
    for (const _ of [1, 2]) await removeGroup(group, { ...TIMES, remove });
    expect(await listGroups(tree())).toEqual([]);
    expect(await readGroup(CGROUP2, group)).toEqual({});
  });

  it('are removed with the groups that a guest made in its own', async () => {
    const group = groupOf(tree(), 'a-1-1');
    const [directory = ''] = directoriesOf(group);
    for (const below of ['exec-1', 'exec-2/deeper']) await mkdir(join(directory, below), { recursive: true });
    await removeGroup(group, TIMES);
    expect(await listGroups(tree())).toEqual([]);
  });

  it('are told to be in use where they cannot be removed in time', async () => {
    const group = groupOf(tree(), 'a-1-1');
    const busy = async () => {
      throw Object.assign(new Error('busy'), { code: 'EBUSY' });
    };
    await expect(removeGroup(group, { pollMs: 1, timeoutMs: 5, remove: busy })).rejects.toMatchObject({
      code: 'INTERNAL',
    });
  });

  it('have a record beside the VM, of which a damaged one is an error', async () => {
    expect(await readGroupRecord(root)).toBeUndefined();
    await writeGroupRecord(root, groupOf(tree(), 'a-1-1'));
    expect(await readGroupRecord(root)).toEqual(groupOf(tree(), 'a-1-1'));
    await writeFile(join(root, 'cgroup.json'), '{"version":1,"kind":"cgroup2","directories":{"cpu":"relative"}}');
    await expect(readGroupRecord(root)).rejects.toMatchObject({ code: 'INTERNAL' });
  });
});

describe('limits', () => {
  const warnings: string[] = [];
  const log = { info: () => undefined, warn: (_: object, message: string) => void warnings.push(message) };

  it('fail closed where they are required and cannot be had, and warn once where they are wished for', async () => {
    // A folder that is not a control group, so it has no controllers.
    const options = { parent: root, stateDir: '/some/state', log };
    await expect(openLimits({ ...options, mode: 'required' })).rejects.toMatchObject({
      code: 'HYPERVISOR_UNAVAILABLE',
      message: expect.stringContaining('KILN_CGROUP_PARENT'),
    });
    warnings.length = 0;
    expect((await openLimits({ ...options, mode: 'auto' })).kind).toBe('none');
    expect(warnings).toEqual([expect.stringContaining('is given no controller cpu, memory, pids')]);
    expect((await openLimits({ ...options, mode: 'off' })).kind).toBe('none');
    expect(warnings).toHaveLength(1);
  });

  it('take a parent that hands down the controllers', async () => {
    await writeFile(join(root, 'cgroup.controllers'), 'cpuset cpu io memory pids\n');
    const found = await findGroups({ parent: root, hostName: 'kiln-x' });
    expect(found).toMatchObject({
      layout: { kind: 'cgroup2' },
      roots: { cpu: root, io: root, memory: root, pids: root },
    });
  });

  it('read a killing by the kernel as the limit or as the machine, and leave other ends alone', () => {
    const killed = { reason: 'killed', code: null, signal: 'SIGKILL' } as const;
    const limit = { oomKills: 1, limitHits: 2, memoryLimitBytes: 828 * MIB };
    expect(explainByMemory(killed, limit)).toMatchObject({
      reason: 'memory-limit',
      detail: expect.stringContaining('828 MiB'),
    });
    expect(explainByMemory(killed, { oomKills: 1, limitHits: 0 })).toMatchObject({
      reason: 'killed',
      detail: expect.stringContaining('machine ran out of memory'),
    });
    expect(explainByMemory(killed, { oomKills: 0, limitHits: 9 })).toBe(killed);
    const panic = { reason: 'guest-panic', code: 0, signal: null } as const;
    expect(explainByMemory(panic, limit)).toBe(panic);
  });
});

describe('a launch', () => {
  it('joins every group before it becomes the program, and tells the kernel to kill it before others', async () => {
    await mkdir(join(root, 'g'));
    const procs = join(root, 'g', 'cgroup.procs');
    const { argv } = launchInGroup(
      { argv: ['sh', '-c', 'cat /proc/self/oom_score_adj; echo "$@"', 'x', 'two words', '$1'] },
      [procs],
    );
    const [file = '', ...args] = argv;
    const { stdout } = await run(file, args);
    expect(stdout).toBe('700\ntwo words $1\n');
    expect(await text('g', 'cgroup.procs')).toBe('0\n');
    expect(await readdir(join(root, 'g'))).toEqual(['cgroup.procs']);
  });

  it('does not run the program where it cannot join', async () => {
    const [file = '', ...args] = launchInGroup({ argv: ['echo', 'ran'] }, [join(root, 'none', 'cgroup.procs')]).argv;
    await expect(run(file, args)).rejects.toMatchObject({ stdout: '' });
  });

  it('becomes the user of the VM after it has joined, which only the worker may', () => {
    const user = { uid: 1234, gid: 5678 };
    expect(launchInGroup({ argv: ['qemu'], user }, []).user).toEqual(user);
    const joined = launchInGroup({ argv: ['qemu'], user }, ['/g/cgroup.procs']);
    expect(joined.user).toBeUndefined();
    expect(joined.argv.join(' ')).toContain('-- setpriv --reuid 1234 --regid 5678 --clear-groups -- qemu');
  });
});

describe('usage of a process', () => {
  it('is read of the kernel, names with spaces and brackets included', () => {
    expect(parseCpuMs(`7 (a ) b) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0`)).toBe(2000);
    expect(parseCpuMs('nothing')).toBeUndefined();
    expect(parseKib('VmHWM:\t  12 kB\nVmRSS:\t  10 kB\n', 'VmRSS')).toBe(10 * 1024);
    expect(parseKib('VmRSS: many', 'VmRSS')).toBeUndefined();
  });

  it('is that of exactly this process', async () => {
    const own = await identify(process.pid);
    if (own === undefined) throw new Error('this process has no identity');
    const used = await processUsage(own);
    expect(used?.rssBytes).toBeGreaterThan(MIB);
    expect(used?.cpuMs).toBeGreaterThan(0);
    expect(await processUsage({ ...own, startTicks: '1' })).toBeUndefined();
    expect(await processUsage({ pid: 2 ** 22 + 1, startTicks: '1', hostBootId: await hostBootId() })).toBeUndefined();
  });

  it('takes device numbers apart as Linux packs them', () => {
    expect(deviceNumbers(0x801n)).toEqual({ major: 8, minor: 1 });
    expect(deviceNumbers((259n << 8n) | (0x12n & 0xffn) | (0x100n << 12n))).toEqual({ major: 259, minor: 0x112 });
  });
});
