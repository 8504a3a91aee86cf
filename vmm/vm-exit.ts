import type { InstanceRecord, VmProcess } from '../contracts/host/instance-record.ts';
import { type FailureCode, isFullDisk, KilnError } from '../domain/failures.ts';
import type { VmExit, VmExitReason } from '../domain/vm.ts';
import { waitGone } from '../linux/process-identity.ts';
import type { WaitExitOptions } from '../ports/vm-driver.ts';
import { type DriverContext, processesOf, recordedPaths } from './driver-context.ts';
import { vmPaths } from './vm-paths.ts';
import { findVmProcesses, leaderOf, type WaitForEnd } from './vm-process.ts';

/** Answer about a VM that is unknown here: it was destroyed or never made. */
export const NO_SUCH_VM: VmExit = {
  reason: 'unknown',
  code: null,
  signal: null,
  detail: 'there is no such VM on this host',
};
export const NOT_STARTED: VmExit = { reason: 'unknown', code: null, signal: null, detail: 'the VM was never started' };

/**
 * Records a process whose worker died before it could do so.
 * @returns the record, with the process where one was found
 */
export async function adoptUnrecorded(context: DriverContext, record: InstanceRecord): Promise<InstanceRecord> {
  if (record.process !== undefined || record.exit !== undefined || context.unspawned.has(record.vmId)) return record;
  const found = await leaderOf(await findVmProcesses(processesOf(context, record)));
  if (found === undefined) return record;
  context.options.log.warn({ vmId: record.vmId, pid: found.pid }, 'adopting a VM process that no record named');
  return (await recordProcess(context, record.vmId, found)) ?? record;
}

/** @returns undefined where the record is gone. A process or exit that is already recorded stays. */
export function recordProcess(
  context: DriverContext,
  vmId: string,
  found: VmProcess,
): Promise<InstanceRecord | undefined> {
  return context.records.update(vmId, (record) =>
    record.process === undefined && record.exit === undefined ? { ...record, process: found } : record,
  );
}

/**
 * Finds out why a VM's process is gone and records it; the first answer stays. Only call it once the process is gone.
 * @param known what the caller did to the process: used if nothing better is found
 * @param failure why the start failed, where it did
 */
export async function settleExit(
  context: DriverContext,
  vmId: string,
  known?: VmExitReason,
  failure?: KilnError,
): Promise<VmExit> {
  const record = await context.records.read(vmId);
  if (record === undefined) return NO_SUCH_VM;
  if (record.exit !== undefined) return plainExit(record.exit);
  const exit = await explain(context, record, known);
  const entry = {
    ...exit,
    at: new Date().toISOString(),
    ...(failure && { failure: { code: failure.code, message: failure.message.slice(0, 4096) } }),
  };
  const updated = await context.records
    .update(vmId, (now) => (now.exit === undefined ? { ...now, exit: entry } : now))
    .catch((error: unknown) => {
      // On a full disk the dead process is proof enough: later callers find the same. One that never ran leaves none.
      if (record.process === undefined || !isFullDisk(error)) throw error;
      return undefined;
    });
  if (record.process !== undefined) context.ends.delete(processKey(record.process));
  return updated?.exit === undefined ? exit : plainExit(updated.exit);
}

async function explain(context: DriverContext, record: InstanceRecord, known?: VmExitReason): Promise<VmExit> {
  const paths = recordedPaths(vmPaths(context.options, record.vmId), record);
  const end = record.process && (await context.ends.get(processKey(record.process))?.());
  const told = record.process === undefined ? NOT_STARTED : await context.backend.explain(paths, end);
  const found = await context.limits.explain(record.vmId, paths.directory, told);
  const detail = found.detail?.slice(-8192);
  return {
    reason: found.reason === 'unknown' ? (known ?? 'unknown') : found.reason,
    code: found.code,
    signal: found.signal,
    ...(detail && { detail }),
  };
}

export function plainExit(exit: NonNullable<InstanceRecord['exit']>): VmExit {
  const { reason, code, signal, detail } = exit;
  return { reason, code, signal, ...(detail !== undefined && { detail }) };
}

export function processKey(identity: VmProcess): string {
  return `${identity.pid}:${identity.startTicks}`;
}

/** Remembers how to get the exit status of a process of this worker. */
export function rememberEnd(context: DriverContext, identity: VmProcess, end: WaitForEnd): void {
  context.ends.set(processKey(identity), end);
}

/** The failure of a VM whose process is gone. */
export function exitFailure(vmId: string, exit: VmExit): KilnError {
  const code: FailureCode = exit.reason === 'guest-panic' ? 'GUEST_CRASHED' : 'VMM_EXITED';
  const how = [exit.reason, exit.code === null ? '' : `code ${exit.code}`, exit.signal ?? '']
    .filter(Boolean)
    .join(', ');
  const message = `VM ${vmId} is gone (${how})${exit.detail ? `: ${exit.detail.slice(-600).trim()}` : ''}`;
  return new KilnError(code, message, { vmId, exit });
}

/**
 * Resolves when the VM's process is gone, whoever started it. The kernel tells of the end of one that this worker has
 * started; one that an earlier worker has started is looked at again and again.
 * @throws CANCELLED where the signal is aborted first
 */
export async function waitExit(
  context: DriverContext,
  vmId: string,
  { signal, pollMs = context.timings.pollMs }: WaitExitOptions = {},
): Promise<VmExit> {
  const record = await context.records.read(vmId);
  if (record === undefined) return NO_SUCH_VM;
  const { exit, process } = await adoptUnrecorded(context, record);
  if (exit !== undefined) return plainExit(exit);
  if (process === undefined) return NOT_STARTED;
  try {
    await context.ends.get(processKey(process))?.(signal);
    await waitGone(process, { pollMs, timeoutMs: Number.POSITIVE_INFINITY, signal });
  } catch (error) {
    if (signal?.aborted)
      throw new KilnError('CANCELLED', `Waiting for VM ${vmId} to end was given up`, { vmId }, error);
    throw error;
  }
  return settleExit(context, vmId);
}
