import type { Resources } from '../workload/workload.ts';
import type { HostCapacity, HostEntry } from './host-entry.ts';
import { setAside, type WaitingRequest } from './waiting-line.ts';

export type PlacementDecision =
  /** Hosts to ask for a reservation, best first. */
  | { readonly kind: 'candidates'; readonly hosts: readonly HostEntry[] }
  | { readonly kind: 'wait'; readonly reason: string }
  /** No host could ever fit this. */
  | { readonly kind: 'impossible'; readonly reason: string };

export interface PlacementRequest {
  readonly resources: Resources;
  readonly nowMs: number;
  /** Entries older than this are not asked. */
  readonly freshForMs: number;
  /** Hosts that refused or did not answer in this round. */
  readonly excluded: readonly string[];
  /** Requests that are served before this one, in order; what is set aside for them is not available to it. */
  readonly ahead?: readonly WaitingRequest[];
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
  const answering = hosts.filter((host) => request.nowMs - Date.parse(host.at) <= request.freshForMs);
  const roomy = answering.filter((host) => takesWork(host) && fits(resources, host.free));
  const ahead = request.ahead ?? [];
  const left = setAside(answering, ahead, takesWork).filter((host) => takesWork(host) && fits(resources, host.free));
  const open = left.filter((host) => !request.excluded.includes(host.hostId));
  if (open.length > 0) return { kind: 'candidates', hosts: [...open].sort(byLoad) };
  if (left.length === 0 && roomy.length > 0) return { kind: 'wait', reason: behind(ahead, resources) };
  return { kind: 'wait', reason: whyWait(hosts, answering, roomy, resources) };
}

/** A host that is really short of memory takes no new VM, whatever its reservations say: see `HostMemory`. */
function takesWork({ draining, memory }: HostEntry): boolean {
  return !draining && (memory === undefined || memory.availableMib >= memory.floorMib);
}

function behind(ahead: readonly WaitingRequest[], resources: Resources): string {
  const first = ahead[0];
  const next = first === undefined ? '' : `, next ${first.workloadId} with ${describe(first.resources)}`;
  return `There is room for ${describe(resources)}, but it is for those who came first or matter more${next}.`;
}

/** In words that change only with the cause: what is missing, where, and what would help. */
function whyWait(
  hosts: readonly HostEntry[],
  answering: readonly HostEntry[],
  roomy: readonly HostEntry[],
  resources: Resources,
): string {
  if (answering.length === 0) {
    const silent = named(hosts, ({ hostId, at }) => `${hostId} not since ${at}`);
    return `No host has been heard of lately: ${silent}. Start one with \`kiln worker host\`.`;
  }
  if (roomy.length > 0) {
    const silent = named(roomy, ({ hostId }) => hostId);
    return `There is room, but the host has refused or its worker does not take tasks: ${silent}. See its log.`;
  }
  const open = answering.filter(({ draining }) => !draining);
  if (open.length === 0) {
    return `Every host that answers is drained and takes no new work: ${named(answering, ({ hostId }) => hostId)}.`;
  }
  const working = open.filter(takesWork);
  if (working.length === 0) {
    const short = named(open, ({ hostId, memory }) => `${hostId} has ${memory?.availableMib ?? 0} MiB`);
    const floor = Math.max(...open.map(({ memory }) => memory?.floorMib ?? 0));
    return `Every host is short of real memory: ${short}, and ${floor} MiB must stay free. It starts once that is so.`;
  }
  const closest = [...working].sort((a, b) => shortage(a, resources) - shortage(b, resources) || byId(a, b));
  const lacks = named(closest, (host) => `${host.hostId} lacks ${missing(resources, host.free)}`);
  return `Every host is full for now: ${describe(resources)} asked for, ${lacks}. It starts once something ends there.`;
}

const SHOWN = 3;

function named(hosts: readonly HostEntry[], say: (host: HostEntry) => string): string {
  const more = hosts.length > SHOWN ? ` and ${hosts.length - SHOWN} more` : '';
  return hosts.slice(0, SHOWN).map(say).join(', ') + more;
}

function missing(need: Resources, have: HostCapacity): string {
  const vcpus = need.vcpus > have.vcpus ? [`${need.vcpus - have.vcpus} vCPU`] : [];
  const memory = need.memMib > have.memMib ? [`${need.memMib - have.memMib} MiB`] : [];
  return [...vcpus, ...memory].join(' and ');
}

/** Share of the request that a host cannot give. */
function shortage({ free }: HostEntry, need: Resources): number {
  return Math.max(0, 1 - free.memMib / need.memMib) + Math.max(0, 1 - free.vcpus / need.vcpus);
}

function fits(need: Resources, have: HostCapacity): boolean {
  return need.vcpus <= have.vcpus && need.memMib <= have.memMib;
}

function byLoad(a: HostEntry, b: HostEntry): number {
  return usedShare(a) - usedShare(b) || byId(a, b);
}

function byId(a: HostEntry, b: HostEntry): number {
  return a.hostId < b.hostId ? -1 : 1;
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
