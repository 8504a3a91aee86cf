import { setTimeout as delay } from 'node:timers/promises';
import { KilnError } from '../../domain/failures.ts';
import { workloadRef } from '../../domain/owner.ts';
import type { ServiceManifest } from '../../domain/workload/workload.ts';
import type { ExecExit } from '../../ports/guest-agent.ts';
import type { VmHost } from '../../ports/host.ts';
import type { OwnerLogs } from '../../ports/logs.ts';
import type { GuestServices } from '../../ports/services.ts';
import { framed } from '../activity-frame.ts';
import type { HostActivities } from '../activity-types.ts';
import { probeHealth } from './health-probe.ts';

interface Ports {
  readonly vms: Pick<VmHost, 'agent'>;
  readonly services: Pick<GuestServices, 'waitExit' | 'setStage'>;
  readonly logs: Pick<OwnerLogs, 'open'>;
  /** Pause between two checks of a service that is starting, ms. */
  readonly readyPollMs: number;
}

/** Waits until the service answers, exits, or its start period is over. */
export function createCheckHealth(ports: Ports): HostActivities['checkHealth'] {
  return ({ workloadId, epoch, vmId, manifest, port }) =>
    framed(async (signal) => {
      const begun = performance.now();
      const watching = new AbortController();
      const stopped = AbortSignal.any([signal, watching.signal]);
      try {
        const exited = ports.services.waitExit(vmId, stopped).then((end) => {
          throw exitedAtStart(end);
        });
        await Promise.race([exited, untilHealthy(ports, vmId, manifest, port, stopped)]);
      } finally {
        watching.abort();
      }
      const readyMs = Math.round(performance.now() - begun);
      const log = await ports.logs.open(workloadRef(workloadId, epoch));
      log.write('deploy', 'info', `healthy after ${readyMs} ms`);
      await log.flush();
      await ports.services.setStage(vmId, 'running');
      return { readyMs };
    });
}

async function untilHealthy(
  ports: Ports,
  vmId: string,
  manifest: ServiceManifest,
  port: number,
  signal: AbortSignal,
): Promise<void> {
  const deadline = performance.now() + manifest.health.startPeriodMs;
  for (;;) {
    const probe = await probeHealth(await ports.vms.agent(vmId), port, manifest.health);
    if (probe.healthy) return;
    if (performance.now() >= deadline) {
      throw new KilnError(
        'HEALTH_FAILED',
        `The service was not healthy within ${manifest.health.startPeriodMs} ms (${probe.reason}). It must listen on the port given in PORT (${port}).`,
      );
    }
    await delay(ports.readyPollMs, undefined, { signal });
  }
}

/** A missing module is a dependency that is not declared; Node.js and Python report it in fixed words. */
const MISSING_MODULE = /(?:Cannot find (?:module|package) '([^']{1,200})')|(?:No module named '([^']{1,200})')/;

function exitedAtStart({ exit, tail }: { exit: ExecExit; tail: string }): KilnError {
  const details = { code: exit.code, signal: exit.signal, stack: tail };
  const missing = MISSING_MODULE.exec(tail);
  if (missing) {
    const name = missing[1] ?? missing[2];
    return new KilnError(
      'DEPENDENCY_UNDECLARED',
      `The service needs ${name}, which is not among its dependencies.`,
      details,
    );
  }
  const how = exit.signal ?? `code ${exit.code}`;
  return new KilnError('SERVICE_EXITED', `The service exited with ${how} before it was healthy.`, details);
}
