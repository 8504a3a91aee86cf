/** The fake driver, changed in all that differs for a VMM in a jail: how it is dialed, recognized and confined. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import type { Duplex } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { InstanceRecord } from '../../../contracts/host/instance-record.ts';
import type { VmDriver } from '../../../ports/vm-driver.ts';
import { type FakeDriverOptions, fakeBackend } from '../../../vmm/fake/fake-driver.ts';
import { createProcessDriver } from '../../../vmm/process-driver.ts';
import type { VmMark } from '../../../vmm/vm-marks.ts';

const JAILED_GUEST = fileURLToPath(new URL('../../fixtures/jailed-guest.ts', import.meta.url));
const PORT = 1024;
/** Belongs to nobody. Changing to this user is the task of the jail, so here no process runs as it. */
export const JAILED_UID = 61_234;

const innerSocket = (runtimeDirectory: string) => join(runtimeDirectory, 'inner.sock');

export function createJailedDriver(options: FakeDriverOptions): VmDriver {
  const base = fakeBackend(options, isProcessOf);
  const backend = {
    ...base,
    confinesItself: true as const,
    uidOf: async () => JAILED_UID,
    sockets: (runtimeDirectory: string) => ({ inner: innerSocket(runtimeDirectory) }),
    isProcessOf,
    dialAgent,
    async command(...[record, paths, run]: Parameters<typeof base.command>) {
      const inner = { ...paths, agentSocket: innerSocket(paths.runtimeDirectory) };
      const guest = await base.command(record, inner, run);
      const jail = [`--jail=${paths.runtimeDirectory}`, `--groups=${run.groups.join(',')}`];
      return { argv: [process.execPath, JAILED_GUEST, ...jail, '--', ...guest.argv] };
    },
  };
  return createProcessDriver(backend, options);
}

function isProcessOf({ sockets }: VmMark, argv: readonly string[]): boolean {
  const jail = dirname(sockets.agent);
  return argv.includes(`--jail=${jail}`) || argv.includes(`unix:${innerSocket(jail)}`);
}

async function dialAgent({ sockets }: InstanceRecord, signal: AbortSignal): Promise<Duplex> {
  const socket = connect({ path: sockets.agent });
  try {
    await once(socket, 'connect', { signal });
    socket.write(`CONNECT ${PORT}\n`);
    const answer = await firstLine(socket, signal);
    if (answer !== `OK ${PORT}`) throw new Error(`"${answer}" is no answer to a greeting`);
    return socket;
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

/** Reads only the first line; the bytes after it stay in the socket. */
async function firstLine(socket: Socket, signal: AbortSignal): Promise<string> {
  const ended = once(socket, 'close', { signal }).then(() => {
    throw new Error('the connection ended before it was greeted');
  });
  ended.catch(() => undefined);
  for (let line = ''; ; ) {
    await Promise.race([once(socket, 'readable', { signal }), ended]);
    for (let byte: unknown = socket.read(1); byte instanceof Buffer; byte = socket.read(1)) {
      if (byte.toString('latin1') === '\n') return line;
      line += byte.toString('latin1');
    }
  }
}
