import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { chmod, mkdir, open, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { eitherSignal, msUntil } from '../../../concurrency/deadline.ts';
import { isKilnError, KilnError } from '../../../domain/failures.ts';
import { FROZEN_FILES } from '../../../domain/vm.ts';
import type { FreezeRequest } from '../../../ports/vm-driver.ts';
import { connectAgent } from '../../agent/connect-agent.ts';
import { readTail } from '../../driver-context.ts';
import type { VmLimits } from '../../limits/vm-limits.ts';
import type { QemuMachine } from '../command-line.ts';
import type { QemuPaths } from '../qemu-paths.ts';
import { connectStarting } from './template-restore.ts';
import { type FreezeLimits, warmUp } from './template-warm-up.ts';
import { startThrowaway, type ThrowawayGuest, throwawayPaths, throwawayRecord } from './throwaway-guest.ts';

export interface FreezeSurroundings {
  readonly machine: QemuMachine;
  readonly runtimeDir: string;
  /** Limit the guest to its size while the template is made. */
  readonly limits: VmLimits;
  /** Poll interval and timeout for the end of its control group, ms. */
  readonly release: { readonly pollMs: number; readonly timeoutMs: number };
  /** User that the VMM runs as, where it has one of its own. */
  readonly uid?: number;
}

const migration = z.object({
  status: z.string().max(64).exactOptional(),
  'error-desc': z.string().max(4096).exactOptional(),
});
const TAIL_BYTES = 1024;
const POLL_MS = 5;

/**
 * Boots a guest whose memory is a file, runs what every clone is to have in its memory, and saves the state of its
 * devices beside it. The process dies with this one (`setpriv --pdeathsig`), so that a crash leaves only files.
 * @throws BOOT_TIMEOUT, VMM_EXITED, AGENT_TIMEOUT, CANCELLED, INTERNAL where the VMM refuses to save
 */
export async function freezeGuest(request: FreezeRequest, around: FreezeSurroundings): Promise<void> {
  const paths = throwawayPaths(request.directory, freezeSockets(around.runtimeDir, request.name));
  await mkdir(paths.runtimeDirectory, { recursive: true, mode: 0o700 });
  try {
    await bootAndFreeze(request, around, paths);
  } catch (error) {
    if (!isKilnError(error)) throw error;
    const said = [await readTail(paths.consoleLog, TAIL_BYTES), await readTail(paths.vmmLog, TAIL_BYTES)];
    const message = [`The guest to be frozen: ${error.message}`, ...said.map((text) => text.trim())];
    throw new KilnError(error.code, message.filter(Boolean).join(': '), error.details, error);
  } finally {
    await rm(paths.runtimeDirectory, { recursive: true, force: true });
  }
}

async function bootAndFreeze(request: FreezeRequest, around: FreezeSurroundings, paths: QemuPaths): Promise<void> {
  const deadline = performance.now() + request.deadlineMs;
  const memoryFile = join(request.directory, FROZEN_FILES.memory);
  await makeMemoryFile(memoryFile, request.spec.memMib);
  const record = throwawayRecord(request.name, request.spec, paths, { projectId: request.projectId, uid: around.uid });
  try {
    const guest = await startThrowaway(record, paths, { ...around.machine, memoryFile }, around.limits);
    await freezeStarted(request, paths, guest, deadline);
  } finally {
    await around.limits.release(request.name, request.directory, around.release);
  }
}

async function freezeStarted(
  request: FreezeRequest,
  paths: QemuPaths,
  guest: ThrowawayGuest,
  deadline: number,
): Promise<void> {
  let toldToEnd = false;
  const over = new AbortController();
  const signal = eitherSignal(over.signal, request.signal);
  const work = freezeRunning(request, paths, { deadline, signal });
  work.catch(() => undefined);
  try {
    const ended = guest.ended.then(() => 'ended' as const);
    // Once asked, it ends by itself, and then the work is done as well.
    if ((await Promise.race([work, ended])) === 'ended' && !toldToEnd) {
      throw new KilnError('VMM_EXITED', 'it ended before it was frozen');
    }
    await work;
  } finally {
    over.abort();
    guest.process.kill('SIGKILL');
    await guest.ended;
    await work.catch(() => undefined);
  }

  async function freezeRunning(
    { warm, directory }: FreezeRequest,
    { agentSocket, qmpSocket, runtimeDirectory }: QemuPaths,
    limits: FreezeLimits,
  ): Promise<void> {
    const deadlineMs = msUntil(limits.deadline);
    const agent = await connectAgent({ connect: agentSocket, deadlineMs, signal: limits.signal });
    try {
      await warmUp(agent, warm, limits);
      // Still attached: a guest that was frozen while it reads from its host reads from the clone's host at once.
      await saveState(qmpSocket, join(runtimeDirectory, 'm.sock'), join(directory, FROZEN_FILES.state), {
        ...limits,
        asked: () => {
          toldToEnd = true;
        },
      });
    } finally {
      await agent.detach().catch(() => undefined);
    }
  }
}

async function makeMemoryFile(path: string, memMib: number): Promise<void> {
  const file = await open(path, 'w', 0o600);
  try {
    await file.truncate(memMib * 1024 * 1024);
  } finally {
    await file.close();
  }
}

/** Stops the guest and makes the VMM send the state of its devices into a file; the memory is in its file already. */
async function saveState(
  qmpSocket: string,
  stateSocket: string,
  path: string,
  limits: FreezeLimits & { readonly asked: () => void },
): Promise<void> {
  const received = await receiveOnce(stateSocket, path);
  const qmp = await connectStarting(qmpSocket, limits.deadline, limits.signal);
  const execute = (command: string, args: object = {}) =>
    qmp.execute(command, { deadlineMs: msUntil(limits.deadline), arguments: args });
  try {
    await execute('stop');
    await execute('migrate-set-capabilities', { capabilities: [{ capability: 'x-ignore-shared', state: true }] });
    await execute('migrate', { uri: `unix:${stateSocket}` });
    for (;;) {
      const { status, 'error-desc': why } = migration.parse(await execute('query-migrate'));
      if (status === 'completed') break;
      if (status === 'failed' || status === 'cancelled')
        throw new KilnError('INTERNAL', `it was not saved: ${why ?? status}`);
      await sleep(POLL_MS, undefined, { signal: limits.signal });
    }
    await received.whole;
    limits.asked();
    await execute('quit').catch(() => undefined);
  } finally {
    received.server.close();
    qmp.close();
  }
}

/** The VMM may neither write to a file of its choice nor start a program, so it sends to a socket. */
async function receiveOnce(socket: string, path: string): Promise<{ server: Server; whole: Promise<void> }> {
  const done = Promise.withResolvers<void>();
  done.promise.catch(() => undefined);
  const server = createServer((connection) => {
    server.close();
    pipeline(connection, createWriteStream(path, { mode: 0o600, flush: true })).then(done.resolve, done.reject);
  });
  server.on('error', done.reject);
  server.listen(socket);
  await once(server, 'listening');
  // Only the user of the VMM may enter the folder of this socket.
  await chmod(socket, 0o666);
  return { server, whole: done.promise };
}

/** @returns where such a guest has its sockets: beside those of VMs, under a name that no VM has */
export function freezeSockets(runtimeDir: string, name: string): string {
  return join(runtimeDir, `.freeze-${name}`);
}
