/** Clears what a dead worker left of a freeze, on a host without control groups. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { qemuTemplates } from '../../../../vmm/qemu/templates/qemu-templates.ts';
import { freezeSockets } from '../../../../vmm/qemu/templates/template-freeze.ts';
import { silentLog } from '../../../support/host/vm-fixtures.ts';

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'kc-'));
});
afterEach(() => rm(root, { recursive: true, force: true }));

it('a guest that was not bound to its worker yet is ended, and its sockets are removed', async () => {
  const name = 'abc-1';
  const [stateDir, runtimeDir] = [join(root, 'state'), join(root, 'run')];
  const sockets = freezeSockets(runtimeDir, name);
  await mkdir(sockets, { recursive: true });
  const idle = `setInterval(() => undefined, 60_000); console.log('up')`;
  const [guest, other] = [join(sockets, 'a.sock'), join(freezeSockets(runtimeDir, 'def-1'), 'a.sock')].map((socket) =>
    spawn(process.execPath, ['-e', idle, '--', `path=${socket},server=on`], { stdio: ['ignore', 'pipe', 'ignore'] }),
  );
  if (guest === undefined || other === undefined) throw new Error('nothing was started');
  await Promise.all([guest, other].map((child) => once(child.stdout ?? child, 'data')));
  const ended = once(guest, 'exit');
  const templates = qemuTemplates({
    options: { stateDir, runtimeDir, log: silentLog },
    binary: 'none',
    machineFor: () => Promise.reject(new Error('nothing is started here')),
  });
  // It may be called again.
  for (let time = 0; time < 2; time++) await templates.clearFreeze({ name, directory: join(stateDir, name) });
  expect(await ended).toEqual([null, 'SIGKILL']);
  expect([other.exitCode, other.signalCode, await readdir(runtimeDir)]).toEqual([null, null, []]);
  const gone = once(other, 'exit');
  other.kill('SIGKILL');
  await gone;
});
