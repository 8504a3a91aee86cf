/** The allowed outcomes of a workload, given everything that was done to it and around it. Pure. */
import type { ChaosEvent, Service } from './schedule.ts';

/** `running`, `stopped`, or a failure code. */
export type Outcome = string;

const NATURAL: Readonly<Record<Service, Outcome>> = {
  plain: 'running',
  'waits-in-build': 'running',
  exits: 'SERVICE_EXITED',
  'build-fails': 'BUILD_FAILED',
  'never-listens': 'HEALTH_FAILED',
  'no-manifest': 'MANIFEST_MISSING',
};

/** Outcomes of a killed VM; which one depends on the operation that was running. */
const VM_KILLED: readonly Outcome[] = ['VMM_EXITED', 'GUEST_CRASHED', 'AGENT_LOST', 'NOT_FOUND'];

/** @returns every outcome that is right for the workload; a schedule that does nothing to it leaves one */
export function allowedOutcomes(id: string, service: Service, events: readonly ChaosEvent[]): ReadonlySet<Outcome> {
  const allowed = new Set<Outcome>([NATURAL[service]]);
  for (const event of events) {
    if ((event.kind === 'stop' || event.kind === 'cancel') && event.id === id) allowed.add('stopped');
    if (event.kind === 'kill-vm' && event.id === id) for (const code of VM_KILLED) allowed.add(code);
  }
  return allowed;
}
