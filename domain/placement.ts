import type { HostCapacity, HostEntry } from './host-entry.ts';
import type { Resources } from './workload.ts';

export type PlacementDecision =
  /** Hosts to ask for a reservation, best first. */
  | { readonly kind: 'candidates'; readonly hosts: readonly HostEntry[] }
  | { readonly kind: 'wait'; readonly reason: string }
  /** No host of the fleet could ever fit this. */
  | { readonly kind: 'impossible'; readonly reason: string };

export interface PlacementRequest {
  readonly resources: Resources;
  readonly nowMs: number;
  /** Entries older than this are not asked. */
  readonly freshForMs: number;
  /** Hosts that refused or stayed silent in this round. */
  readonly excluded: readonly string[];
}

/** Chooses hosts: fresh, not draining, room enough; least loaded first, ties by host id. */
export function decidePlacement(hosts: readonly HostEntry[], request: PlacementRequest): PlacementDecision {
  const { resources } = request;
  if (hosts.length === 0) {
    return { kind: 'wait', reason: 'No host has registered. Start one with `kiln worker host`.' };
  }
  if (!hosts.some((host) => fits(resources, host.capacity))) {
    return { kind: 'impossible', reason: `No host is big enough for ${describe(resources)}. ${largest(hosts)}` };
  }
  const fresh = hosts.filter((host) => request.nowMs - Date.parse(host.at) <= request.freshForMs && !host.draining);
  const open = fresh.filter((host) => fits(resources, host.free) && !request.excluded.includes(host.hostId));
  if (open.length > 0) return { kind: 'candidates', hosts: [...open].sort(byLoad) };
  if (fresh.length === 0) {
    return {
      kind: 'wait',
      reason: `None of ${hosts.length} known hosts has been heard of lately or all are draining.`,
    };
  }
  return {
    kind: 'wait',
    reason: `${fresh.length} host(s) are full: ${describe(resources)} asked for, ${freest(fresh)}`,
  };
}

function fits(need: Resources, have: HostCapacity): boolean {
  return need.vcpus <= have.vcpus && need.memMib <= have.memMib;
}

function byLoad(a: HostEntry, b: HostEntry): number {
  return usedShare(a) - usedShare(b) || (a.hostId < b.hostId ? -1 : 1);
}

function usedShare(host: HostEntry): number {
  return 1 - Math.min(host.free.memMib / host.capacity.memMib, host.free.vcpus / host.capacity.vcpus);
}

function describe(resources: Resources): string {
  return `${resources.vcpus} vCPU and ${resources.memMib} MiB`;
}

function largest(hosts: readonly HostEntry[]): string {
  const best = [...hosts].sort((a, b) => b.capacity.memMib - a.capacity.memMib)[0];
  return best ? `The largest, ${best.hostId}, has ${describe(best.capacity)}.` : '';
}

function freest(hosts: readonly HostEntry[]): string {
  const best = [...hosts].sort((a, b) => b.free.memMib - a.free.memMib)[0];
  return best ? `at most ${describe(best.free)} free (${best.hostId}).` : '';
}
