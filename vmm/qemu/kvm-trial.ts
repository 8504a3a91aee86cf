import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, open, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { InstanceRecord } from '../../contracts/instance-record.ts';
import { isKilnError, KilnError } from '../../domain/failures.ts';
import { connectAgent } from '../agent/connect-agent.ts';
import { readTail } from '../driver-context.ts';
import type { VmPaths } from '../vm-paths.ts';
import { lendFiles } from '../vm-user.ts';
import type { QemuMachine } from './command-line.ts';
import { qemuLaunch } from './launch.ts';

export interface TrialOptions {
  /** What the guest is tried on; its writes are thrown away whatever is said here. */
  readonly machine: QemuMachine;
  /** How long the guest may take to its agent's hello; under KVM three times what it takes when all is well. */
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
}

const TAIL_BYTES = 1024;

/**
 * Boots the VM's own kernel and disks with every write thrown away, and ends it again. The process dies with this one
 * (`setpriv --pdeathsig`), so that a crash in the middle leaves nothing.
 * @throws AGENT_TIMEOUT, VMM_EXITED where it does not come up, with what the VMM said
 */
export async function trialBoot(record: InstanceRecord, paths: VmPaths, options: TrialOptions): Promise<void> {
  const trial = trialPaths(paths);
  await mkdir(trial.runtimeDirectory, { recursive: true, mode: 0o700 });
  // One folder deeper than a VM's own sockets, so there is one more to pass through.
  if (record.uid !== undefined) await chmod(dirname(paths.runtimeDirectory), 0o711);
  await mkdir(trial.directory, { recursive: true, mode: 0o700 });
  try {
    await bootOnce(record, trial, options);
  } catch (error) {
    if (!isKilnError(error)) throw error;
    const said = await readTail(trial.vmmLog, TAIL_BYTES);
    throw new KilnError(error.code, [error.message, said.trim()].filter(Boolean).join(': '), error.details, error);
  } finally {
    await rm(trial.runtimeDirectory, { recursive: true, force: true });
    await rm(trial.directory, { recursive: true, force: true });
  }
}

async function bootOnce(record: InstanceRecord, trial: VmPaths, options: TrialOptions): Promise<void> {
  const machine = { ...options.machine, discardWrites: true };
  const { argv, user, files } = await qemuLaunch(record, trial, machine);
  const opened = await lendFiles(record.uid, files, trial);
  const log = await open(trial.vmmLog, 'a', 0o600);
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...argv], {
    cwd: '/',
    stdio: ['ignore', log.fd, log.fd, ...opened.descriptors],
    ...user,
  });
  await opened.close();
  const ended = once(child, 'exit').then(
    () => undefined,
    () => undefined,
  );
  const over = new AbortController();
  try {
    const signal = AbortSignal.any([options.signal, over.signal]);
    const connected = connectAgent({ connect: trial.agentSocket, deadlineMs: options.deadlineMs, signal });
    connected.catch(() => undefined);
    const channel = await Promise.race([connected, ended]);
    if (channel === undefined) throw new KilnError('VMM_EXITED', 'the trial guest ended before its agent answered');
    await channel.detach();
  } finally {
    over.abort();
    child.kill('SIGKILL');
    await ended;
    await log.close();
  }
}

/** Beside the VM's own, so that nobody takes the trial for the VM. */
function trialPaths(paths: VmPaths): VmPaths {
  const directory = join(paths.directory, 'trial');
  const runtimeDirectory = join(paths.runtimeDirectory, 'try');
  return {
    directory,
    runtimeDirectory,
    agentSocket: join(runtimeDirectory, 'a.sock'),
    qmpSocket: join(runtimeDirectory, 'q.sock'),
    consoleLog: join(directory, 'console.log'),
    vmmLog: join(directory, 'vmm.log'),
  };
}
