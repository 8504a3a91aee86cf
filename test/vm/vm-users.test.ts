import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { defined } from '../../domain/defined.ts';
import type { VmDriver } from '../../ports/vm-driver.ts';
import { createInstanceStore } from '../../vmm/instance-record.ts';
import { createQemuDriver } from '../../vmm/qemu/qemu-driver.ts';
import { vmPaths } from '../../vmm/vm-paths.ts';
import { identity } from '../conformance/vm-driver/vm-driver-identity.ts';
import { type Places, whatIsLeft } from '../support/host/nothing-left.ts';
import { imageVmSpec, silentLog, testTscRate, vmUsers } from '../support/host/vm-fixtures.ts';

const run = promisify(execFile);
const BOOT_MS = 60_000;
const PROJECTS = { 'a-1-1': 'alpha', 'b-1-1': 'beta', 'n-1-1': undefined } as const;

describe('users of VMMs', () => {
  let root: string;
  let places: Places;
  let driver: VmDriver;
  const pids = new Map<string, number>();

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'ku-'));
    await chmod(root, 0o711);
    places = { stateDir: join(root, 'state'), runtimeDir: join(root, 'run') };
    driver = createQemuDriver({
      ...places,
      log: silentLog,
      tscKhz: testTscRate,
      accel: 'tcg',
      ...vmUsers(places.stateDir),
    });
    for (const [vmId, projectId] of Object.entries(PROJECTS)) {
      const directory = join(places.stateDir, 'vms', vmId);
      await mkdir(directory, { recursive: true });
      const spec = await imageVmSpec(vmId, directory);
      await driver.prepare({ ...spec, owner: { ...spec.owner, ...defined({ projectId }) } });
      pids.set(vmId, (await driver.start(vmId, { identity: identity(vmId), deadlineMs: BOOT_MS })).pid);
    }
  });
  afterEach(async () => {
    for (const vmId of Object.keys(PROJECTS)) await driver.destroy(vmId);
    const left = await whatIsLeft(places);
    await rm(root, { recursive: true, force: true });
    expect(left).toEqual([]);
  });

  const status = async (vmId: string, field: string): Promise<string[]> => {
    const text = await readFile(`/proc/${pids.get(vmId)}/status`, 'utf8');
    return (new RegExp(`^${field}:(.*)$`, 'm').exec(text)?.[1] ?? '').trim().split(/\s+/).filter(Boolean);
  };
  const uidOf = async (vmId: string) => Number((await status(vmId, 'Uid'))[0]);

  /** Runs a script as the user of a VMM, like somebody who has broken out of it. @returns its success or the error */
  const tryAs = async (vmId: string, script: string): Promise<string> => {
    const uid = await uidOf(vmId);
    return run('setpriv', [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', 'sh', '-c', script], {
      cwd: '/',
    }).then(
      ({ stdout }) => `it worked: ${stdout.slice(0, 100)}`,
      (error: unknown) => String(error),
    );
  };

  it('gives every project one of its own, without rights of any kind, and keeps others out of its disks and sockets', async () => {
    const uids = await Promise.all(Object.keys(PROJECTS).map(uidOf));
    if (process.getuid?.() !== 0) {
      expect(uids).toEqual(uids.map(() => process.getuid?.()));
      return;
    }
    expect(new Set(uids).size).toBe(3);
    for (const vmId of Object.keys(PROJECTS)) {
      expect(new Set([...(await status(vmId, 'Uid')), ...(await status(vmId, 'Gid'))])).toEqual(
        new Set([`${await uidOf(vmId)}`]),
      );
      expect(await status(vmId, 'Groups')).toEqual([]);
      for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapAmb'])
        expect(await status(vmId, set)).toEqual(['0000000000000000']);
      expect(await status(vmId, 'NoNewPrivs')).toEqual(['1']);
    }
    const record = await createInstanceStore(places.stateDir).read('b-1-1');
    const disk = record?.drives[0]?.path ?? '';
    const { agentSocket, consoleLog } = vmPaths(places, 'b-1-1');
    const qmpSocket = record?.sockets['qmp'] ?? '';
    // The refusals must hold even if every folder on the path is open to all.
    for (const path of [places.stateDir, join(places.stateDir, 'vms'), join(places.stateDir, 'vms', 'b-1-1')])
      await chmod(path, 0o755);
    expect(await tryAs('b-1-1', `head -c 4 ${disk}`)).toContain('it worked: QFI');
    for (const path of [disk, consoleLog, `/proc/${pids.get('b-1-1')}/mem`, `/proc/${pids.get('b-1-1')}/fd/3`]) {
      expect(await tryAs('a-1-1', `head -c 4 ${path}`)).toContain('Permission denied');
      expect(await tryAs('n-1-1', `: >> ${path}`)).toContain('Permission denied');
    }
    for (const socket of [agentSocket, qmpSocket]) {
      expect(await tryAs('a-1-1', connecting(socket))).toContain('EACCES');
      // A VMM cannot replace its own socket either.
      expect(await tryAs('b-1-1', `rm ${socket}`)).toContain('Permission denied');
    }
    expect((await stat(record?.kernelPath ?? '')).uid).toBe(0);
    expect(await tryAs('b-1-1', `: >> ${record?.drives[0]?.backing?.[0]?.path}`)).toContain('Permission denied');
    expect(await tryAs('a-1-1', `kill -0 ${pids.get('b-1-1')}`)).toContain('not permitted');
  });
});

/** Uses Perl, which every Debian has: this Node may be in a place where other users cannot run it. */
function connecting(socket: string): string {
  const script =
    'socket(S, AF_UNIX, SOCK_STREAM, 0); connect(S, pack_sockaddr_un($ARGV[0])) or do { print STDERR $!{EACCES} ? "EACCES" : $!; exit 1 }';
  return `perl -MSocket -MErrno -e '${script}' ${socket}`;
}
