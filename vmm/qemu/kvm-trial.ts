import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { InstanceRecord } from '../../contracts/instance-record.ts';
import { KilnError } from '../../domain/failures.ts';
import { connectAgent } from '../agent/connect-agent.ts';
import type { VmPaths } from '../vm-paths.ts';
import { qemuCommandLine } from './command-line.ts';
import { writeEventFiles } from './event-files.ts';

export interface TrialOptions {
  readonly qemuBinary: string;
  /** How long a guest under KVM may take to its agent's hello; three times what it takes when all is well. */
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
}

/**
 * Boots the VM's own kernel and disks under KVM with every write thrown away, and ends it again. The process dies with
 * this one (`setpriv --pdeathsig`), so that a crash in the middle leaves nothing.
 * @throws AGENT_TIMEOUT, VMM_EXITED where it does not come up
 */
export async function trialBoot(record: InstanceRecord, paths: VmPaths, options: TrialOptions): Promise<void> {
  const trial = trialPaths(paths);
  await mkdir(trial.runtimeDirectory, { recursive: true, mode: 0o700 });
  await mkdir(trial.directory, { recursive: true, mode: 0o700 });
  await writeEventFiles(trial.directory);
  const machine = { binary: options.qemuBinary, accel: 'kvm', tbSizeMib: 0, tscKhz: 0, discardWrites: true } as const;
  const [file, ...args] = ['setpriv', '--pdeathsig', 'KILL', ...qemuCommandLine(record, trial, machine)];
  const child = spawn(file ?? '', args, { cwd: '/', stdio: 'ignore' });
  const over = new AbortController();
  const ended = once(child, 'exit').then(() => undefined);
  try {
    const signal = AbortSignal.any([options.signal, over.signal]);
    const connected = connectAgent({ connect: trial.agentSocket, deadlineMs: options.deadlineMs, signal });
    const channel = await Promise.race([connected, ended]);
    if (channel === undefined) throw new KilnError('VMM_EXITED', 'The trial guest ended before its agent answered');
    await channel.detach();
  } finally {
    over.abort();
    child.kill('SIGKILL');
    await ended.catch(() => undefined);
    await rm(trial.runtimeDirectory, { recursive: true, force: true });
    await rm(trial.directory, { recursive: true, force: true });
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
