/** What this host measures of itself, for Prometheus. Each metric is described in docs/metrics.md. */
import { readdir, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { VmStart } from '../../domain/vm.ts';
import type { EgressVerdict } from '../../ports/guest-agent.ts';
import type { SessionSaves } from '../../ports/saves.ts';
import type { DriverCapabilities, VmDriver, VmInspection } from '../../ports/vm-driver.ts';
import type { HostCapacityLedger } from '../capacity/ledger.ts';
import type { MemoryGauge } from '../capacity/memory-gauge.ts';
import type { HostLogs } from '../logs/host-logs.ts';
import type { TemplateEvent } from '../templates/template-store.ts';
import type { SweepReport } from '../upkeep/sweep.ts';
import type { HostVms } from '../vms/vm-host.ts';
import { measuredSaves } from './save-metrics.ts';
import { addSessionVms } from './session-metrics.ts';
import { addUsage } from './usage-metrics.ts';

const MIB = 1024 * 1024;
const BOOT_SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 10, 20, 30];
const BUILD_SECONDS = [0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600, 1800];

export interface HostMetricsSources {
  readonly stateDir: string;
  /** How long a guest may take to report its usage before a reading leaves it out, ms. */
  readonly usageMs: number;
  readonly driver: VmDriver;
  readonly ledger: HostCapacityLedger;
  readonly memory: MemoryGauge;
  readonly vms: HostVms;
  readonly logs: HostLogs;
  /** @returns how many VMs of sessions are paused for their leases */
  readonly heldForLease: () => number;
}

export interface HostMetrics {
  /** Other parts of the process may add metrics of their own. */
  readonly registry: Registry;
  noteDriver(driver: string, capabilities: DriverCapabilities): void;
  noteEgress(verdict: EgressVerdict): void;
  noteSweep(report: SweepReport): void;
  noteBoot(bootMs: number, start: VmStart): void;
  /** The VM of a session goes on again. */
  noteResume(ms: number): void;
  /** @returns saves that are measured */
  measuredSaves(saves: SessionSaves): SessionSaves;
  noteTemplate(event: TemplateEvent): void;
  /** @param result whether it was built, found in the cache, or failed */
  noteBuild(result: 'built' | 'cached' | 'failed', buildMs: number): void;
}

/** @param sources read only when somebody reads the metrics; a reading leaves out what fails */
export function createHostMetrics(sources: HostMetricsSources): HostMetrics {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry, prefix: 'kiln_host_' });
  addVms(sources, registers);
  addResources(sources, registers);
  addCapacity(sources, registers);
  addDisk(sources, registers);
  addUsage(sources, registers);
  addBytes(sources, registers);
  return {
    registry,
    noteResume: addSessionVms(sources, registers),
    measuredSaves: measuredSaves(registers),
    ...createNotes(registers),
  };
}

type Notes = Omit<HostMetrics, 'registry' | 'noteResume' | 'measuredSaves'>;

/** Metrics of events, as opposed to states. */
function createNotes(registers: Registry[]): Notes {
  const driverInfo = new Gauge({
    name: 'kiln_host_driver_info',
    help: 'Which VMM runs the guests, and how they are accelerated; always 1.',
    labelNames: ['driver', 'accel', 'version', 'reason'],
    registers,
  });
  const egress = counter('kiln_host_egress_total', 'Connections that guests asked for.', 'verdict', registers);
  const swept = counter('kiln_host_swept_total', 'What sweeps did.', 'outcome', registers);
  const templates = counter('kiln_host_templates_total', 'What became of templates.', 'event', registers);
  const boots = new Histogram({
    name: 'kiln_host_boot_seconds',
    help: 'Starts of guests, from the call to a configured agent, by what they started from.',
    labelNames: ['accel', 'start'],
    buckets: BOOT_SECONDS,
    registers,
  });
  const builds = new Histogram({
    name: 'kiln_host_build_seconds',
    help: 'Builds: made in a builder VM, found in the cache, or failed.',
    labelNames: ['result'],
    buckets: BUILD_SECONDS,
    registers,
  });
  let accel = 'unknown';
  return {
    noteDriver(driver, capabilities) {
      accel = capabilities.accel;
      driverInfo.set({ driver, accel, version: capabilities.version, reason: capabilities.reason ?? '' }, 1);
    },
    noteEgress: ({ allow }) => egress.inc({ verdict: allow ? 'allowed' : 'refused' }),
    noteSweep(report) {
      for (const outcome of ['adopted', 'destroyed', 'left', 'removed', 'released', 'errors'] as const) {
        swept.inc({ outcome }, report[outcome].length);
      }
    },
    noteBoot: (bootMs, start) => boots.observe({ accel, start }, bootMs / 1000),
    noteTemplate: (event) => templates.inc({ event }),
    noteBuild: (result, buildMs) => builds.observe({ result }, buildMs / 1000),
  };
}

function counter<Label extends string>(name: string, help: string, label: Label, registers: Registry[]) {
  return new Counter({ name, help, labelNames: [label], registers });
}

async function inspections(driver: VmDriver): Promise<{ vmId: string; found: VmInspection | undefined }[]> {
  const vmIds = await driver.list().catch(() => []);
  return Promise.all(vmIds.map(async (vmId) => ({ vmId, found: await driver.inspect(vmId).catch(() => undefined) })));
}

function addVms({ driver, vms }: HostMetricsSources, registers: Registry[]): void {
  new Gauge({
    name: 'kiln_host_vms',
    help: 'VMs with a record on this host.',
    labelNames: ['role', 'attached'],
    registers,
    async collect() {
      const all = await inspections(driver);
      this.reset();
      for (const { vmId, found } of all) {
        this.inc({ role: found?.owner.role ?? 'unknown', attached: String(vms.isAttached(vmId)) });
      }
    },
  });
}

/** Counted separately, so that a resource without an owner shows as a difference. */
function addResources({ driver, vms, ledger, stateDir }: HostMetricsSources, registers: Registry[]): void {
  new Gauge({
    name: 'kiln_host_resources',
    help: 'What the host holds: VM records, live VMM processes, VM directories, control groups, open host ports, reservations.',
    labelNames: ['kind'],
    registers,
    async collect() {
      const vmIds = await driver.list().catch(() => undefined);
      const directories = await readdir(join(stateDir, 'vms')).catch(() => undefined);
      const groups = await driver.listGroups().catch(() => undefined);
      const reservations = await ledger.list().catch(() => undefined);
      const states = vmIds && (await Promise.all(vmIds.map((vmId) => driver.status(vmId).catch(() => undefined))));
      this.reset();
      this.set({ kind: 'port' }, vms.openPorts);
      if (vmIds) this.set({ kind: 'record' }, vmIds.length);
      if (directories) this.set({ kind: 'directory' }, directories.length);
      if (groups) this.set({ kind: 'group' }, groups.length);
      if (reservations) this.set({ kind: 'reservation' }, reservations.length);
      const live = states?.filter((status) => status?.state === 'running' || status?.state === 'paused');
      if (live) this.set({ kind: 'process' }, live.length);
    },
  });
}

function addCapacity({ ledger, memory }: HostMetricsSources, registers: Registry[]): void {
  new Gauge({
    name: 'kiln_host_real_memory_bytes',
    help: 'Memory as it is: what the kernel could give, what must stay so, what all VMMs use (shared pages once).',
    labelNames: ['kind'],
    registers,
    async collect() {
      const { availableMib, floorMib, vmsMib } = await memory.read();
      this.set({ kind: 'available' }, availableMib * MIB);
      this.set({ kind: 'floor' }, floorMib * MIB);
      this.set({ kind: 'vms' }, vmsMib * MIB);
    },
  });
  const totals = (name: string, help: string, of: 'vcpus' | 'memMib') =>
    new Gauge({
      name,
      help,
      labelNames: ['kind'],
      registers,
      async collect() {
        const { capacity, free } = await ledger.totals();
        this.set({ kind: 'capacity' }, capacity[of]);
        this.set({ kind: 'free' }, free[of]);
      },
    });
  totals('kiln_host_vcpus', 'vCPUs of the host that may be reserved, and those that are free.', 'vcpus');
  totals('kiln_host_memory_mib', 'Memory of the largest guest that could be, and that fits now, MiB.', 'memMib');
}

function addDisk({ stateDir }: HostMetricsSources, registers: Registry[]): void {
  new Gauge({
    name: 'kiln_host_disk_bytes',
    help: "The file system that holds the host's state: its size, and what is free.",
    labelNames: ['kind'],
    registers,
    async collect() {
      const found = await statfs(stateDir).catch(() => undefined);
      this.reset();
      if (found === undefined) return;
      this.set({ kind: 'size' }, found.blocks * found.bsize);
      this.set({ kind: 'free' }, found.bavail * found.bsize);
    },
  });
}

function addBytes({ vms, logs }: HostMetricsSources, registers: Registry[]): void {
  new Gauge({
    name: 'kiln_host_ingress_connections',
    help: 'Open connections to services in guests.',
    registers,
    collect() {
      this.set(vms.connections);
    },
  });
  new Gauge({
    name: 'kiln_host_log_unshipped_bytes',
    help: 'Log bytes that only this host has.',
    registers,
    collect() {
      this.set(logs.unshippedBytes());
    },
  });
  new Gauge({
    name: 'kiln_host_log_follows_held',
    help: 'Requests of gateways that wait here for the next line of a log.',
    registers,
    collect() {
      this.set(logs.heldFollows());
    },
  });
}
