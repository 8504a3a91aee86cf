import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { listeningPorts, mountsBelow, type Places, whatIsLeft } from '../../support/host/nothing-left.ts';

let places: Places;
beforeEach(async () => {
  const root = await mkdtemp(join(tmpdir(), 'kiln-left-'));
  places = { stateDir: join(root, 'state'), runtimeDir: join(root, 'run') };
  await mkdir(join(places.stateDir, 'vms'), { recursive: true });
  await mkdir(places.runtimeDir);
});
afterEach(() => rm(join(places.stateDir, '..'), { recursive: true, force: true }));

describe('the check for "nothing left"', () => {
  it('is content with empty places, and with places that are gone', async () => {
    expect(await whatIsLeft(places)).toEqual([]);
    expect(await whatIsLeft({ stateDir: '/nowhere/state', runtimeDir: '/nowhere/run' })).toEqual([]);
  });

  it('sees a directory, a reservation and sockets', async () => {
    await mkdir(join(places.stateDir, 'vms', 'a-1-1'));
    await mkdir(join(places.stateDir, 'reservations'));
    await writeFile(join(places.stateDir, 'reservations', 'a-1'), '');
    await mkdir(join(places.runtimeDir, 'b-1-1'));
    const left = await whatIsLeft(places);
    expect(left.map((line) => line.split(' /')[0])).toEqual(['VM directory', 'reservation', 'socket directory']);
  });

  it('sees a process by its command line', async () => {
    const child = spawn('sh', ['-c', 'read x', `${places.stateDir}/vms/a`], { stdio: ['pipe', 'ignore', 'ignore'] });
    try {
      await once(child, 'spawn');
      await expect.poll(() => whatIsLeft(places)).toEqual([expect.stringContaining(`process ${child.pid}`)]);
    } finally {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    expect(await whatIsLeft(places)).toEqual([]);
  });

  it('sees an open socket and a listener', async () => {
    const unix = createServer();
    const tcp = createServer();
    await new Promise<void>((resolve) => unix.listen(join(places.runtimeDir, 's.sock'), resolve));
    await new Promise<void>((resolve) => tcp.listen(0, '127.0.0.1', resolve));
    const address = tcp.address();
    const ports = typeof address === 'object' && address !== null ? [address.port] : [];
    const left = await whatIsLeft({ ...places, ports });
    expect(left).toContainEqual(expect.stringContaining('open socket'));
    expect(left).toContain(`listener on port ${ports[0]}`);
    await Promise.all([unix, tcp].map((server) => new Promise((resolve) => server.close(resolve))));
    expect(await whatIsLeft({ ...places, ports })).toEqual([]);
  });

  it('reads mounts and listeners as the kernel writes them', () => {
    const mountinfo =
      '36 35 98:0 / /tmp/x/state/vms/a/merged rw,noatime - overlay overlay rw\n37 35 98:0 / / rw - ext4 a rw\n';
    expect(mountsBelow(mountinfo, ['/tmp/x/state'])).toHaveLength(1);
    const tcp = [
      '  sl  local_address rem_address   st tx_queue rx_queue',
      '   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000',
      '   1: 0100007F:1F91 0100007F:1F90 01 00000000:00000000',
    ].join('\n');
    expect(listeningPorts(tcp)).toEqual([8080]);
  });
});
