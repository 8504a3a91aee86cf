/** What each VM with an owner uses, for Prometheus: as its guest sees it, and as the machine does. */
import { Gauge, type Registry } from 'prom-client';
import { within } from '../../concurrency/deadline.ts';
import { singleFlight } from '../../concurrency/single-flight.ts';
import { ownerLabel, ownerOf } from '../../domain/owner.ts';
import type { GuestUsage } from '../../ports/guest-agent.ts';
import type { VmDriver, VmInspection, VmUsage } from '../../ports/vm-driver.ts';
import type { HostVms } from '../vms/vm-host.ts';

export interface UsageReaders {
  /** How long a guest may take to report its usage before a reading leaves it out, ms. */
  readonly usageMs: number;
  readonly driver: VmDriver;
  readonly vms: HostVms;
}

interface Usage {
  readonly labels: { readonly workload: string; readonly role: string };
  /** Absent where the guest did not answer in time. */
  readonly guest?: GuestUsage;
  /** Absent where its process is gone. */
  readonly vm?: VmUsage;
}

/** Only VMs that live on this host are labelled, so there are never more series than VMs. */
export function addUsage(sources: UsageReaders, registers: Registry[]): void {
  const readings = singleFlight(() => readAll(sources));
  const gauge = (name: string, help: string, value: (used: Usage) => number | undefined) =>
    new Gauge({
      name,
      help,
      labelNames: ['workload', 'role'],
      registers,
      async collect() {
        const all = await readings();
        this.reset();
        for (const used of all) {
          const found = value(used);
          if (found !== undefined) this.set(used.labels, found);
        }
      },
    });
  gauge(
    'kiln_host_workload_memory_bytes',
    "Memory in use in a workload's guest, as its agent reads it.",
    ({ guest }) => guest?.memUsedBytes,
  );
  gauge(
    'kiln_host_workload_cpu_seconds',
    "CPU time a workload's guest has used since it booted, all cores.",
    ({ guest }) => guest && guest.cpuMs / 1000,
  );
  gauge(
    'kiln_host_workload_vm_cpu_seconds',
    "CPU time of this machine that a workload's VM has used since its start, all cores.",
    ({ vm }) => vm && vm.cpuMs / 1000,
  );
  addMemory(readings, registers);
}

function addMemory(readings: () => Promise<readonly Usage[]>, registers: Registry[]): void {
  new Gauge({
    name: 'kiln_host_workload_vm_memory_bytes',
    help: "Memory of this machine that a workload's VM has: now, at most so far, its limit, its share of shared pages.",
    labelNames: ['workload', 'role', 'kind'],
    registers,
    async collect() {
      const all = await readings();
      this.reset();
      for (const { labels, vm } of all) {
        const kinds = {
          current: vm?.memoryBytes,
          peak: vm?.memoryPeakBytes,
          limit: vm?.memoryLimitBytes,
          share: vm?.shareBytes,
        };
        for (const [kind, bytes] of Object.entries(kinds))
          if (bytes !== undefined) this.set({ ...labels, kind }, bytes);
      }
    },
  });
}

async function readAll(sources: UsageReaders): Promise<Usage[]> {
  const vmIds = await sources.driver.list().catch(() => []);
  const found = await Promise.all(vmIds.map((vmId) => sources.driver.inspect(vmId).catch(() => undefined)));
  return (await Promise.all(found.map((vm) => usageOf(sources, vm)))).filter((used) => used !== undefined);
}

async function usageOf(sources: UsageReaders, found: VmInspection | undefined): Promise<Usage | undefined> {
  const owner = found && ownerOf(found.owner.workflowId);
  if (owner === undefined || found === undefined) return undefined;
  const [guest, vm] = await Promise.all([
    guestUsage(sources, found.vmId),
    sources.driver.usage(found.vmId).catch(() => undefined),
  ]);
  return {
    labels: { workload: ownerLabel(owner), role: found.owner.role },
    ...(guest && { guest }),
    ...(vm && { vm }),
  };
}

async function guestUsage({ vms, usageMs }: UsageReaders, vmId: string): Promise<GuestUsage | undefined> {
  if (!vms.isAttached(vmId)) return undefined;
  const asked = vms.agent(vmId).then((agent) => agent.usage());
  return within(
    asked.catch(() => undefined),
    usageMs,
  );
}
