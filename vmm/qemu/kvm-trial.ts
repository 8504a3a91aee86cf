import { chmod, mkdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { eitherSignal } from '../../concurrency/deadline.ts';
import type { InstanceRecord } from '../../contracts/host/instance-record.ts';
import { isKilnError, KilnError } from '../../domain/failures.ts';
import { connectAgent } from '../agent/connect-agent.ts';
import { readTail } from '../driver-context.ts';
import type { QemuMachine } from './command-line.ts';
import type { QemuPaths } from './qemu-paths.ts';
import { startThrowaway, throwawayPaths } from './templates/throwaway-guest.ts';

export interface TrialOptions {
  /** Machine on which the guest is tried; its writes are thrown away whatever is set here. */
  readonly machine: QemuMachine;
  /** How long the guest may take until its agent's hello; under KVM three times the normal time. */
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
}

const TAIL_BYTES = 1024;

/**
 * Boots the VM's own kernel and disks with every write thrown away, and ends it again. The process dies with this one
 * (`setpriv --pdeathsig`), so that a crash in the middle leaves nothing.
 * @throws AGENT_TIMEOUT, VMM_EXITED where it does not come up, with what the VMM said
 */
export async function trialBoot(record: InstanceRecord, paths: QemuPaths, options: TrialOptions): Promise<void> {
  // Beside the VM's own paths, so that nobody mistakes the trial for the VM.
  const trial = throwawayPaths(join(paths.directory, 'trial'), join(paths.runtimeDirectory, 'try'));
  await mkdir(trial.runtimeDirectory, { recursive: true, mode: 0o700 });
  // One folder deeper than a VM's own sockets, so the VM's user must be able to enter one more.
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

async function bootOnce(record: InstanceRecord, trial: QemuPaths, options: TrialOptions): Promise<void> {
  const guest = await startThrowaway(record, trial, { ...options.machine, discardWrites: true });
  const over = new AbortController();
  try {
    const signal = eitherSignal(options.signal, over.signal);
    const connected = connectAgent({ connect: trial.agentSocket, deadlineMs: options.deadlineMs, signal });
    connected.catch(() => undefined);
    const channel = await Promise.race([connected, guest.ended]);
    if (channel === undefined) throw new KilnError('VMM_EXITED', 'the trial guest ended before its agent answered');
    await channel.detach();
  } finally {
    over.abort();
    guest.process.kill('SIGKILL');
    await guest.ended;
  }
}
