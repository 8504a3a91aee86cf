/** What a host measures of the VMs of sessions. */
import { Gauge, Histogram, type Registry } from 'prom-client';
import type { VmDriver } from '../../ports/vm-driver.ts';
import type { HostCapacityLedger } from '../capacity/ledger.ts';

const RESUME_SECONDS = [0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 10];

export interface SessionVmSources {
  readonly driver: Pick<VmDriver, 'list' | 'inspect' | 'status'>;
  readonly ledger: Pick<HostCapacityLedger, 'ahead'>;
  /** @returns how many VMs are paused for their leases */
  readonly heldForLease: () => number;
}

/** @returns what notes that the VM of a session goes on again, and how long that took, ms */
export function addSessionVms(
  { driver, ledger, heldForLease }: SessionVmSources,
  registers: Registry[],
): (ms: number) => void {
  new Gauge({
    name: 'kiln_host_session_vms',
    help: 'VMs of sessions: running, paused, or of another state.',
    labelNames: ['state'],
    registers,
    async collect() {
      const vmIds = await driver.list().catch(() => []);
      const states = await Promise.all(vmIds.map((vmId) => stateOf(driver, vmId).catch(() => undefined)));
      this.reset();
      for (const state of states) if (state !== undefined) this.inc({ state });
    },
  });
  new Gauge({
    name: 'kiln_host_session_vms_without_lease',
    help: "VMs of sessions that are paused because nobody confirms that they are still their sessions' own.",
    registers,
    collect() {
      this.set(heldForLease());
    },
  });
  new Gauge({
    name: 'kiln_host_wakes_waiting',
    help: 'VMs of sessions that wait for room on this host to go on.',
    registers,
    collect() {
      this.set(ledger.ahead(undefined));
    },
  });
  const resumes = new Histogram({
    name: 'kiln_host_resume_seconds',
    help: 'From the call to a guest that runs again, without the wait for room.',
    buckets: RESUME_SECONDS,
    registers,
  });
  return (ms) => resumes.observe(ms / 1000);
}

async function stateOf(driver: SessionVmSources['driver'], vmId: string): Promise<string | undefined> {
  const found = await driver.inspect(vmId);
  return found?.owner.role === 'session' ? (await driver.status(vmId)).state : undefined;
}
