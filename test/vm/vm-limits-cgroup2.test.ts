/** The limits on a kernel whose cgroup2 has every controller: that of a guest, as this machine's may have fewer. */
import { spawn } from 'node:child_process';
import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { CHECKOUT } from '../../config/checkout.ts';
import { createQemuDriver } from '../../vmm/qemu/qemu-driver.ts';
import { identity } from '../conformance/vm-driver/vm-driver-identity.ts';
import { whatIsLeft } from '../support/host/nothing-left.ts';
import { imageVmSpec, silentLog, testTscRate, vmUsers } from '../support/host/vm-fixtures.ts';

const VM = 'a-1-1';
const MIB = 1024 * 1024;
/** The modules that the fixture loads; the Node that runs it strips their types. */
const FOLDERS = ['concurrency', 'contracts', 'domain', 'linux', 'ports', 'vmm'];
const FILES = [...FOLDERS, 'test/fixtures/groups-in-guest.ts', 'package.json'];
const MODULES = ['zod', 'write-file-atomic', 'signal-exit'].map((name) => `node_modules/${name}`);

it('cgroup2 holds, counts, ends and lets go of what is started in it, as another user', async () => {
  const root = await mkdtemp(join(tmpdir(), 'k2-'));
  await chmod(root, 0o711);
  const places = { stateDir: join(root, 'state'), runtimeDir: join(root, 'run') };
  const driver = createQemuDriver({
    ...places,
    log: silentLog,
    tscKhz: testTscRate,
    accel: 'tcg',
    ...vmUsers(places.stateDir),
  });
  onTestFinished(async () => {
    await driver.destroy(VM);
    const left = await whatIsLeft(places);
    await rm(root, { recursive: true, force: true });
    expect(left).toEqual([]);
  });
  const directory = join(places.stateDir, 'vms', VM);
  await mkdir(directory, { recursive: true });
  await driver.prepare(await imageVmSpec(VM, directory));
  const { agent } = await driver.start(VM, { identity: identity(VM), deadlineMs: 60_000 });
  const tar = spawn('tar', ['-cf', '-', '-C', CHECKOUT, ...FILES, ...MODULES], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await agent.putTar('/workspace/kiln', tar.stdout);
  const script =
    'mount -t cgroup2 none /sys/fs/cgroup && exec node --disable-warning=ExperimentalWarning /workspace/kiln/test/fixtures/groups-in-guest.ts';
  const exec = await agent.exec({
    execId: 'groups',
    argv: ['sh', '-c', script],
    cwd: '/',
    output: 'wait',
    timeoutMs: 180_000,
  });
  const said = { stdout: '', stderr: '' };
  for await (const piece of exec.output) if (piece.kind === 'data') said[piece.stream] += piece.data.toString();
  expect((await exec.exit).code, said.stderr).toBe(0);
  expect(JSON.parse(said.stdout)).toMatchObject({
    kind: 'cgroup2',
    told: { code: 0, text: expect.stringMatching(/^4321\n4321\n0::\/kiln-[0-9a-f]{8}\/user-1-1\n700$/) },
    knobs: {
      'cpu.max': '125000 100000',
      'cpu.weight': '100',
      'memory.max': String(64 * MIB),
      'memory.oom.group': '1',
      'pids.max': '16',
    },
    exit: { reason: 'memory-limit', signal: 'SIGKILL', detail: expect.stringContaining('64 MiB') },
    usage: { source: 'cgroup', memoryLimitBytes: 64 * MIB },
    listed: ['bomb-1-1', 'hog-1-1', 'user-1-1'],
    left: [[], true],
  });
  expect(JSON.parse(said.stdout).pids).toBeLessThanOrEqual(16);
});
