import type { InstanceRecord, VmProcess } from '../contracts/host/instance-record.ts';
import { KilnError } from '../domain/failures.ts';
import type { AgentChannel } from '../ports/guest-agent.ts';
import type { StartedVm } from '../ports/vm-driver.ts';
import type { DriverContext } from './driver-context.ts';
import { linkAgent, pathsOf, startable } from './vm-start.ts';

/** Stops the guest's CPUs. Never kills. @throws NOT_FOUND, VMM_EXITED, GUEST_CRASHED */
export function pauseVm(context: DriverContext, vmId: string): Promise<void> {
  return context.operations.run(vmId, async () => {
    const record = await runningRecord(context, vmId);
    await context.backend.pause(record, pathsOf(context, record), context.timings.quitMs);
  });
}

/**
 * Resumes a guest and sets its clock, which had stopped. Never kills.
 * @throws NOT_FOUND, VMM_EXITED, GUEST_CRASHED, AGENT_TIMEOUT
 */
export function resumeVm(
  context: DriverContext,
  vmId: string,
  options: { wallClockMs: () => number; deadlineMs: number; agent?: AgentChannel | undefined; signal?: AbortSignal },
): Promise<StartedVm> {
  return context.operations.run(vmId, async () => {
    const record = await runningRecord(context, vmId);
    // Attached before the guest resumes: the guest then never sees an absent host, for which it would wait a while.
    const linked = linkAgent(context, record, options);
    linked.catch(() => undefined);
    try {
      await context.backend.resume(record, pathsOf(context, record), context.timings.quitMs);
      const agent = await linked;
      await agent.setClock(options.wallClockMs());
      return { vmId, pid: record.process.pid, agent };
    } catch (error) {
      if (options.agent === undefined) void linked.then((agent) => agent.detach()).catch(() => undefined);
      throw error;
    }
  });
}

async function runningRecord(context: DriverContext, vmId: string): Promise<InstanceRecord & { process: VmProcess }> {
  const record = await startable(context, vmId);
  const { process } = record;
  if (process === undefined) throw new KilnError('NOT_FOUND', `VM ${vmId} has not been started`, { vmId });
  return { ...record, process };
}
