/** What this host measures of itself, for Prometheus. */
import { Counter, Gauge, Registry } from 'prom-client';
import type { DriverCapabilities, EgressVerdict, VmDriver } from '../activities/ports.ts';
import type { HostCapacityLedger } from './capacity-ledger.ts';
import type { SweepReport } from './sweep.ts';
import type { HostVms } from './vm-host.ts';
import type { HostLogs } from './workload-logs.ts';

export interface HostMetricsSources {
  readonly driver: VmDriver;
  readonly ledger: HostCapacityLedger;
  readonly vms: HostVms;
  readonly logs: HostLogs;
}

export interface HostMetrics {
  /** Other parts of the process may add metrics of their own. */
  readonly registry: Registry;
  noteDriver(driver: string, capabilities: DriverCapabilities): void;
  noteEgress(verdict: EgressVerdict): void;
  noteSweep(report: SweepReport): void;
}

/** @param sources asked when somebody reads the metrics, not before; what fails is left out of that reading */
export function createHostMetrics(sources: HostMetricsSources): HostMetrics {
  const registry = new Registry();
  const registers = [registry];
  addVms(sources, registers);
  addCapacity(sources, registers);
  new Gauge({
    name: 'kiln_host_ingress_connections',
    help: 'Open connections to services in guests.',
    registers,
    collect() {
      this.set(sources.vms.connections);
    },
  });
  new Gauge({
    name: 'kiln_host_log_unshipped_bytes',
    help: 'Log bytes that only this host has.',
    registers,
    collect() {
      this.set(sources.logs.unshippedBytes());
    },
  });
  const driverInfo = new Gauge({
    name: 'kiln_host_driver_info',
    help: 'Which VMM runs the guests, and how they are accelerated.',
    labelNames: ['driver', 'accel', 'version', 'reason'],
    registers,
  });
  const egress = new Counter({
    name: 'kiln_host_egress_total',
    help: 'Connections that guests asked for.',
    labelNames: ['verdict'],
    registers,
  });
  const swept = new Counter({
    name: 'kiln_host_swept_total',
    help: 'What sweeps did.',
    labelNames: ['outcome'],
    registers,
  });
  return {
    registry,
    noteDriver: (driver, { accel, version, reason }) =>
      driverInfo.set({ driver, accel, version, reason: reason ?? '' }, 1),
    noteEgress: ({ allow }) => egress.inc({ verdict: allow ? 'allowed' : 'refused' }),
    noteSweep(report) {
      for (const outcome of ['adopted', 'destroyed', 'left', 'errors'] as const) {
        swept.inc({ outcome }, report[outcome].length);
      }
    },
  };
}

function addVms({ driver, vms }: HostMetricsSources, registers: Registry[]): void {
  new Gauge({
    name: 'kiln_host_vms',
    help: 'VMs with a record on this host.',
    labelNames: ['role', 'attached'],
    registers,
    async collect() {
      this.reset();
      for (const vmId of await driver.list().catch(() => [])) {
        const found = await driver.inspect(vmId).catch(() => undefined);
        this.inc({ role: found?.owner.role ?? 'unknown', attached: String(vms.isAttached(vmId)) });
      }
    },
  });
}

function addCapacity({ ledger }: HostMetricsSources, registers: Registry[]): void {
  new Gauge({
    name: 'kiln_host_reservations',
    help: 'Reservations of capacity.',
    registers,
    async collect() {
      this.set((await ledger.list()).length);
    },
  });
  new Gauge({
    name: 'kiln_host_vcpus',
    help: 'vCPUs of the host that may be reserved, and those that are free.',
    labelNames: ['kind'],
    registers,
    async collect() {
      const { capacity, free } = await ledger.totals();
      this.set({ kind: 'capacity' }, capacity.vcpus);
      this.set({ kind: 'free' }, free.vcpus);
    },
  });
  new Gauge({
    name: 'kiln_host_memory_mib',
    help: 'Memory of the largest guest that could be, and that fits now, MiB.',
    labelNames: ['kind'],
    registers,
    async collect() {
      const { capacity, free } = await ledger.totals();
      this.set({ kind: 'capacity' }, capacity.memMib);
      this.set({ kind: 'free' }, free.memMib);
    },
  });
}
