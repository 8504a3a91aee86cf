/** Guests that take all they can: each is limited to its size, ends with a named cause, and leaves nothing. */
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { FROZEN_FILES } from '../../domain/vm.ts';
import type { AgentChannel } from '../../ports/guest-agent.ts';
import type { StartedVm, VmDriver } from '../../ports/vm-driver.ts';
import { directoriesOf } from '../../vmm/limits/control-groups.ts';
import type { CapSettings } from '../../vmm/limits/group-caps.ts';
import { type GroupRecord, readGroupRecord } from '../../vmm/limits/group-record.ts';
import { freezeSockets } from '../../vmm/qemu/templates/template-freeze.ts';
import { identity } from '../conformance/vm-driver/vm-driver-identity.ts';
import { machineLimits } from '../support/host/group-limits.ts';
import { openLimitedDriver } from '../support/host/limited-driver.ts';
import { type Places, whatIsLeft } from '../support/host/nothing-left.ts';
import { imageVmSpec } from '../support/host/vm-fixtures.ts';

const BOOT_MS = 60_000;
const MIB = 1024 * 1024;
const VM = 'a-1-1';
const NEIGHBOUR = 'b-1-1';

let root: string;
let places: Places;
let driver: VmDriver;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'kl-'));
  await chmod(root, 0o711);
  places = { stateDir: join(root, 'state'), runtimeDir: join(root, 'run') };
  driver = await openDriver();
});
afterEach(async () => {
  for (const vmId of [VM, NEIGHBOUR]) await driver.destroy(vmId);
  const left = await whatIsLeft(places);
  await rm(root, { recursive: true, force: true });
  expect(left).toEqual([]);
});

const openDriver = (caps?: Partial<CapSettings>) => openLimitedDriver(places, caps);

async function boot(vmId: string): Promise<StartedVm> {
  const directory = join(places.stateDir, 'vms', vmId);
  await mkdir(directory, { recursive: true });
  await driver.prepare(await imageVmSpec(vmId, directory));
  return driver.start(vmId, { identity: identity(vmId), deadlineMs: BOOT_MS });
}

async function exec(
  agent: AgentChannel,
  script: string,
  timeoutMs = 120_000,
): Promise<{ code: number | null; text: string }> {
  const argv = ['sh', '-c', script];
  const handle = await agent.exec({ execId: randomUUID(), argv, cwd: '/', output: 'wait', timeoutMs });
  let text = '';
  for await (const piece of handle.output) if (piece.kind === 'data') text += piece.data.toString();
  return { code: (await handle.exit).code, text: text.trim() };
}

/** Fills the memory of the machine it runs on. */
const HOG = 'node -e "const all = []; for (;;) all.push(Buffer.alloc(8 * 1024 * 1024, 1))"';

/** Allocates all but the last 64 MiB of its disk at once, and then writes until the disk is full. */
const FILLER = `
  free=$(df -k /workspace | awk 'NR == 2 { print $4 }')
  fallocate -l $((free - 65536))K /workspace/most
  dd if=/dev/zero of=/workspace/rest bs=1M 2>&1
  rm /workspace/most /workspace/rest`;

/** Freezes a guest whose warm-up takes a few seconds, and runs `during` meanwhile. */
async function freezeWhile(name: string, during: (directory: string) => Promise<void>): Promise<string> {
  const directory = join(places.stateDir, 'templates', name);
  await mkdir(directory, { recursive: true });
  const { vmId: _, owner: __, ...spec } = await imageVmSpec('template', directory);
  const warm = [['sleep', '3']];
  const request = { directory, name, spec, warm, projectId: 'p', deadlineMs: BOOT_MS };
  await Promise.all([driver.templates?.freeze(request), during(directory)]);
  return directory;
}

describe('a VM in its control group', () => {
  it('is there before its guest runs, found again by the next worker, and gone with its VM', async () => {
    const { pid, agent } = await boot(VM);
    const group = await readGroupRecord(join(places.stateDir, 'vms', VM));
    if (group === undefined) throw new Error('the VM has no control group');
    for (const directory of directoriesOf(group)) {
      expect((await readFile(join(directory, 'cgroup.procs'), 'utf8')).trim().split('\n')).toEqual([String(pid)]);
    }
    // If this run already has a higher value and may not lower it, its guests have the same value.
    const own = (await readFile('/proc/self/oom_score_adj', 'utf8')).trim();
    expect(['700', own]).toContain((await readFile(`/proc/${pid}/oom_score_adj`, 'utf8')).trim());
    const usage = await driver.usage(VM);
    expect(usage).toMatchObject({ source: 'cgroup', memoryLimitBytes: (512 + 316) * MIB });
    expect(usage?.cpuMs).toBeGreaterThan(0);
    expect(usage?.shareBytes).toBeGreaterThan(32 * MIB);
    await agent.detach();
    driver = await openDriver();
    expect(await driver.listGroups()).toEqual([VM]);
    expect(await driver.usage(VM)).toMatchObject({ source: 'cgroup' });
    await driver.destroy(VM);
    expect(await driver.listGroups()).toEqual([]);
    expect(await driver.usage(VM)).toBeUndefined();
  });

  it('contains hogs of memory, processes and disk, beside a neighbour who notices nothing', async () => {
    const hog = (await boot(VM)).agent;
    const neighbour = (await boot(NEIGHBOUR)).agent;
    // The guest's own kernel kills the program; the VM gets no more memory than it was promised.
    expect((await exec(hog, HOG)).code).not.toBe(0);
    const usage = await driver.usage(VM);
    expect(usage?.memoryPeakBytes).toBeGreaterThan(400 * MIB);
    expect(usage?.memoryPeakBytes).toBeLessThanOrEqual((512 + 316) * MIB);
    const filled = await exec(hog, FILLER);
    expect(filled.text).toContain('No space left on device');
    // These are processes of the guest: on the machine there is still one process, with no more threads than before.
    const bomb = exec(hog, 'bomb() { bomb | bomb & }; bomb', 2_000).catch(() => undefined);
    expect((await exec(neighbour, 'echo fine')).text).toBe('fine');
    await driver.stop(VM, { graceMs: 0 });
    await bomb;
    expect((await exec(neighbour, 'echo still fine')).text).toBe('still fine');
  });

  it('holds also a guest that is frozen to a template', async () => {
    let group: GroupRecord | undefined;
    const directory = await freezeWhile('0123456789abcdef-x1', async (at) => {
      await vi.waitFor(async () => {
        group = await readGroupRecord(at);
        const [first = ''] = group === undefined ? [] : directoriesOf(group);
        const [pid] = (await readFile(join(first, 'cgroup.procs'), 'utf8')).trim().split('\n');
        expect(await readFile(`/proc/${pid}/cmdline`, 'utf8')).toContain('qemu-system');
        for (const other of group === undefined ? [] : directoriesOf(group)) {
          expect((await readFile(join(other, 'cgroup.procs'), 'utf8')).trim()).toBe(pid);
        }
      }, BOOT_MS);
    });
    expect(group).toBeDefined();
    for (const gone of group === undefined ? [] : directoriesOf(group)) expect(existsSync(gone)).toBe(false);
    expect((await stat(join(directory, FROZEN_FILES.state))).size).toBeGreaterThan(0);
  });

  it('of a freeze is removed by the next worker where the last one could not', async () => {
    const name = '0123456789abcdef-x2';
    const directory = join(places.stateDir, 'templates', name);
    await mkdir(directory, { recursive: true });
    const limits = await machineLimits(places.stateDir);
    await limits.launch({ vmId: name, vcpus: 1, memMib: 64 }, { argv: ['true'] }, directory);
    await mkdir(freezeSockets(places.runtimeDir, name), { recursive: true });
    const left = (await whatIsLeft(places)).map((what) => what.split(' ', 2).join(' '));
    expect(new Set(left)).toEqual(new Set(['socket directory', 'control group']));
    for (let time = 0; time < 2; time++) await driver.templates?.clearFreeze({ name, directory });
    expect(await whatIsLeft(places)).toEqual([]);
  });

  it('is ended by its memory limit with a reason, whether or not a worker saw it', async () => {
    driver = await openDriver({ vmOverheadMib: -192 });
    const seen = (await boot(VM)).agent;
    const ended = driver.waitExit(VM);
    await exec(seen, HOG).catch(() => undefined);
    expect(await ended).toMatchObject({ reason: 'memory-limit', detail: expect.stringContaining('320 MiB') });
    const unseen = (await boot(NEIGHBOUR)).agent;
    await exec(unseen, HOG).catch(() => undefined);
    await driver.waitExit(NEIGHBOUR);
    driver = await openDriver();
    expect(await driver.status(NEIGHBOUR)).toMatchObject({ state: 'exited', exit: { reason: 'memory-limit' } });
  });
});
