import type { Resources } from '../workload/workload.ts';
import type { HostCapacity, HostEntry } from './host-entry.ts';
import type { Priority } from './priority.ts';

/** A workload that waits for capacity. */
export interface WaitingRequest {
  readonly workloadId: string;
  readonly priority: Priority;
  /** When it was requested, ms since 1970. */
  readonly sinceMs: number;
  readonly resources: Resources;
}

/** @returns the requests served before `own`: by priority, then by age; `own` is not ahead of itself. Pure. */
export function aheadOf(line: readonly WaitingRequest[], own: Omit<WaitingRequest, 'resources'>): WaitingRequest[] {
  return line
    .filter(({ workloadId }) => workloadId !== own.workloadId)
    .filter((other) => order(other, own) < 0)
    .sort(order);
}

function order(a: Omit<WaitingRequest, 'resources'>, b: Omit<WaitingRequest, 'resources'>): number {
  return a.priority - b.priority || a.sinceMs - b.sinceMs || (a.workloadId < b.workloadId ? -1 : 1);
}

/**
 * Capacity that is left after every request of `ahead` has set its size aside on one host: one where it fits, else the
 * one that lacks least for it. So small requests cannot starve a big one: no later request takes what becomes free on
 * its host, and other hosts stay open. Pure.
 * @param usable whether a host takes new work at all
 */
export function setAside(
  hosts: readonly HostEntry[],
  ahead: readonly WaitingRequest[],
  usable: (host: HostEntry) => boolean,
): HostEntry[] {
  const left = hosts.map((host) => ({ ...host }));
  for (const { resources } of ahead) {
    const possible = left.filter((host) => usable(host) && lack(host.capacity, resources) === 0);
    const [best] = possible.sort(
      (a, b) => lack(a.free, resources) - lack(b.free, resources) || spare(b, resources) - spare(a, resources),
    );
    if (best === undefined) continue;
    const at = left.indexOf(best);
    left[at] = {
      ...best,
      free: { vcpus: best.free.vcpus - resources.vcpus, memMib: best.free.memMib - resources.memMib },
    };
  }
  return left;
}

/** Missing share of a request; 0 where it fits. */
function lack(have: HostCapacity, need: Resources): number {
  return Math.max(0, 1 - have.memMib / need.memMib) + Math.max(0, 1 - have.vcpus / need.vcpus);
}

/** What a host has beyond a request, as a share of its capacity: the least loaded host comes first. */
function spare({ free, capacity }: HostEntry, need: Resources): number {
  return Math.min(
    (free.memMib - need.memMib) / Math.max(1, capacity.memMib),
    (free.vcpus - need.vcpus) / Math.max(1, capacity.vcpus),
  );
}
