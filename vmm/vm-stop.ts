import { rm } from 'node:fs/promises';
import { within } from '../concurrency/deadline.ts';
import type { InstanceRecord, VmProcess } from '../contracts/host/instance-record.ts';
import { isKilnError } from '../domain/failures.ts';
import type { VmExit } from '../domain/vm.ts';
import { isAlive, waitGone } from '../linux/process-identity.ts';
import type { AgentChannel } from '../ports/guest-agent.ts';
import { type DriverContext, processesOf } from './driver-context.ts';
import { keptSocketFolders } from './socket-folders.ts';
import { adoptUnrecorded, NO_SUCH_VM, plainExit, settleExit } from './vm-exit.ts';
import { markOf } from './vm-marks.ts';
import { vmPaths } from './vm-paths.ts';
import { killVmProcesses } from './vm-process.ts';
import { killTimings, linkAgent, pathsOf } from './vm-start.ts';

export interface StopRequest {
  readonly graceMs: number;
  /** The caller's channel, which stays the caller's; absent: one is opened while the guest is asked. */
  readonly agent?: AgentChannel | undefined;
}

/** Ends the VM: by the agent within `graceMs`, then by the VMM's own quit, then by SIGKILL. Record and files stay. */
export function stopVm(context: DriverContext, vmId: string, options: StopRequest): Promise<VmExit> {
  context.starts.get(vmId)?.abort();
  return context.operations.run(vmId, async () => {
    const found = await context.records.read(vmId);
    if (found === undefined) return NO_SUCH_VM;
    const record = await adoptUnrecorded(context, found);
    if (record.exit !== undefined) return plainExit(record.exit);
    const { process } = record;
    if (process === undefined || !(await isAlive(process))) return settleStopped(context, record);
    await shutDown(context, { ...record, process }, options);
    const forced = await isAlive(process);
    if (forced) await quit(context, record, process);
    await killVmProcesses(processesOf(context, record), process, killTimings(context));
    return settleExit(context, vmId, forced ? 'killed' : 'guest-shutdown');
  });
}

/** A VM that is stopped before it ran must not be started by a late call: its end is recorded too. */
async function settleStopped(context: DriverContext, record: InstanceRecord): Promise<VmExit> {
  await killVmProcesses(processesOf(context, record), record.process, killTimings(context));
  return settleExit(context, record.vmId);
}

async function shutDown(
  context: DriverContext,
  record: InstanceRecord & { process: VmProcess },
  { graceMs, agent }: StopRequest,
): Promise<void> {
  if (graceMs <= 0) return;
  const { vmId, process } = record;
  const deadline = performance.now() + graceMs;
  const over = new AbortController();
  const linked = linkAgent(context, record, { deadlineMs: graceMs, agent, signal: over.signal });
  try {
    const asked = linked.then((channel) => channel.shutdown());
    // A shutdown that fails or gets no answer is not a failure of the stop: force follows.
    await within(
      asked.catch(() => undefined),
      graceMs,
    );
    const timeoutMs = Math.max(0, deadline - performance.now());
    await waitGone(process, { pollMs: context.timings.pollMs, timeoutMs });
  } catch (error) {
    context.options.log.warn({ vmId, error: String(error) }, 'VM did not shut down by itself');
  } finally {
    over.abort();
    // Not awaited: whatever a guest does that has not shut down, its channel ends with its process.
    if (agent === undefined) void linked.then((channel) => channel.detach()).catch(() => undefined);
  }
}

async function quit(context: DriverContext, record: InstanceRecord, process: VmProcess): Promise<void> {
  const { pollMs, quitMs } = context.timings;
  if (context.backend.quit === undefined) return;
  try {
    await context.backend.quit(record, pathsOf(context, record), quitMs);
    await waitGone(process, { pollMs, timeoutMs: quitMs });
  } catch (error) {
    context.options.log.warn({ vmId: record.vmId, error: String(error) }, 'VMM did not quit when asked');
  }
}

/** Frees all of a VM: process, sockets, files; the record last. A VM with a damaged record is found by its marker. */
export function destroyVm(context: DriverContext, vmId: string): Promise<void> {
  context.starts.get(vmId)?.abort();
  return context.operations.run(vmId, async () => {
    const configured = vmPaths(context.options, vmId);
    context.unspawned.delete(vmId);
    const record = await readIfSound(context, vmId);
    // A renamed VM keeps its sockets, so what lies under its old name belongs to it.
    if (record === undefined && (await keptSocketFolders(context.records)).has(vmId)) return;
    const all = record === undefined ? [configured] : [configured, pathsOf(context, record)];
    for (const paths of all) {
      await killVmProcesses(processesOf(context, markOf(paths)), record?.process, killTimings(context));
      await rm(paths.runtimeDirectory, { recursive: true, force: true });
    }
    // After the processes and before the record: a group without either would have no owner.
    await context.limits.release(vmId, configured.directory, killTimings(context));
    await context.records.remove(vmId);
  });
}

async function readIfSound(context: DriverContext, vmId: string): Promise<InstanceRecord | undefined> {
  try {
    return await context.records.read(vmId);
  } catch (error) {
    if (!isKilnError(error, 'INTERNAL')) throw error;
    context.options.log.warn({ vmId, error: error.message }, 'destroying a VM whose record is damaged');
    return undefined;
  }
}
