import { setTimeout as delay } from 'node:timers/promises';
import { abortable } from '../../concurrency/deadline.ts';
import { isKilnError, messageOf } from '../../domain/failures.ts';
import { workloadRef } from '../../domain/owner.ts';
import type { VmExit, VmStatus } from '../../domain/vm.ts';
import { isUnhealthy, nextHealth, type Observation, UNKNOWN_HEALTH } from '../../domain/workload/supervision.ts';
import type { HealthCheck } from '../../domain/workload/workload.ts';
import type { VmHost } from '../../ports/host.ts';
import type { OwnerLogs } from '../../ports/logs.ts';
import type { GuestServices } from '../../ports/services.ts';
import { framed } from '../activity-frame.ts';
import type { HostActivities } from '../activity-types.ts';
import { type ProbeResult, probeHealth } from './health-probe.ts';

interface Ports {
  readonly vms: Pick<VmHost, 'agent' | 'status' | 'waitExit'>;
  readonly services: Pick<GuestServices, 'waitExit'>;
  readonly logs: Pick<OwnerLogs, 'open'>;
}

/** Watches VM, service and health until one of them ends. Holds nothing, so it may be restarted at any time. */
export function createSuperviseVm(ports: Ports): HostActivities['superviseVm'] {
  return ({ workloadId, epoch, vmId, manifest, port }) =>
    framed(async (signal) => {
      const watching = new AbortController();
      const stopped = AbortSignal.any([signal, watching.signal]);
      try {
        return await Promise.race([
          vmGone(ports, vmId, stopped),
          serviceEnded(ports, vmId, stopped),
          unhealthy(ports, vmId, port, manifest.health, stopped),
        ]);
      } finally {
        watching.abort();
        // The observation matters more than a log that cannot be written.
        await ports.logs
          .open(workloadRef(workloadId, epoch))
          .then((log) => log.flush())
          .catch(() => undefined);
      }
    });
}

async function vmGone(ports: Ports, vmId: string, signal: AbortSignal): Promise<Observation> {
  return observeExit(await ports.vms.waitExit(vmId, { signal }));
}

function observeExit(exit: VmExit): Observation {
  // Only the workflow's own release powers a guest off; then the workflow does not wait for this answer.
  if (exit.reason === 'guest-shutdown') return { kind: 'stopped' };
  const detail = exit.detail === undefined ? '' : `: ${exit.detail.slice(-500)}`;
  if (exit.reason === 'guest-panic') {
    return { kind: 'vm-gone', code: 'GUEST_CRASHED', message: `The guest's kernel panicked${detail}` };
  }
  if (exit.reason === 'memory-limit') {
    return { kind: 'vm-gone', code: 'VMM_EXITED', message: `The VM's process was ended by its memory limit${detail}` };
  }
  const how = exit.signal ?? (exit.code === null ? exit.reason : `code ${exit.code}`);
  return { kind: 'vm-gone', code: 'VMM_EXITED', message: `The VM's process ended (${how})${detail}` };
}

async function serviceEnded(ports: Ports, vmId: string, signal: AbortSignal): Promise<Observation> {
  for (;;) {
    try {
      const { exit, tail } = await ports.services.waitExit(vmId, signal);
      const reason = exit.signal === null ? 'exited' : 'killed';
      return { kind: 'service-exited', exit: { code: exit.code, signal: exit.signal, reason }, tail };
    } catch (error) {
      if (signal.aborted) throw error;
      // A parallel watch sees the end of the VM itself, and knows its cause better.
      if (isKilnError(error, ...VM_ENDED)) return otherWatch(signal);
      // A lost channel says nothing about the service.
      if (!isKilnError(error, 'AGENT_LOST')) throw error;
      await ports.vms.agent(vmId).catch(() => undefined);
    }
  }
}

const VM_ENDED = ['VMM_EXITED', 'GUEST_CRASHED', 'NOT_FOUND'] as const;
const VM_OVER: ReadonlySet<VmStatus['state']> = new Set(['exited', 'gone']);

/** Leaves the answer to the parallel watches. */
function otherWatch(signal: AbortSignal): Promise<never> {
  return abortable(new Promise<never>(() => {}), signal);
}

async function unhealthy(
  ports: Ports,
  vmId: string,
  port: number,
  check: HealthCheck,
  signal: AbortSignal,
): Promise<Observation> {
  let health = UNKNOWN_HEALTH;
  for (;;) {
    await delay(check.intervalMs, undefined, { signal });
    const probe = await probeOnce(ports, vmId, port, check);
    health = nextHealth(health, probe.healthy);
    if (!probe.healthy && isUnhealthy(health, check)) {
      // A parallel watch sees the end of the VM itself, and knows its cause better.
      if (VM_OVER.has((await ports.vms.status(vmId)).state)) return otherWatch(signal);
      return { kind: 'unhealthy', message: `${health.failuresInRow} health checks failed in a row: ${probe.reason}` };
    }
  }
}

async function probeOnce(ports: Ports, vmId: string, port: number, check: HealthCheck): Promise<ProbeResult> {
  try {
    return await probeHealth(await ports.vms.agent(vmId), port, check);
  } catch (error) {
    return { healthy: false, reason: messageOf(error) };
  }
}
