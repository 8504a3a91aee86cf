import { decidePlacement } from '../../domain/capacity/placement.ts';
import { aheadOf, type WaitingRequest } from '../../domain/capacity/waiting-line.ts';
import type { HostDirectory, WaitingLine } from '../../ports/documents.ts';
import type { ImageCatalog } from '../../ports/images.ts';
import { short } from '../activity-frame.ts';
import type { ControlActivities } from '../activity-types.ts';

interface Ports {
  readonly hosts: HostDirectory;
  readonly images: ImageCatalog;
  readonly line: WaitingLine;
  readonly now: () => number;
  readonly onDispatched?: (latencyMs: number) => void;
}

type PlaceInput = Parameters<ControlActivities['placeWorkload']>[0];

/** Resolves the image once; picks the least loaded host that fits and is not set aside for a request ahead in line. */
export function createPlaceWorkload(ports: Ports): ControlActivities['placeWorkload'] {
  return (input) =>
    short(async () => {
      if (input.requestedAt !== undefined) ports.onDispatched?.(ports.now() - Date.parse(input.requestedAt));
      const [hosts, image, line] = await Promise.all([
        ports.hosts.list(),
        ports.images.resolve(input.image),
        lineOf(ports, input),
      ]);
      const decision = decidePlacement(hosts, {
        resources: input.resources,
        nowMs: ports.now(),
        freshForMs: input.freshForMs,
        excluded: input.excludedHosts,
        ahead: line.ahead,
      });
      if (decision.kind === 'wait') {
        await line.join();
        return input.place === undefined ? decision : { ...decision, ahead: line.ahead.length };
      }
      if (decision.kind !== 'candidates') return decision;
      const best = decision.hosts[0];
      if (best === undefined) return { kind: 'wait', reason: 'No host is free.' };
      return { kind: 'placed', hostId: best.hostId, image };
    });
}

/** The requests that are ahead of this one in the line, and how to write this one there. */
async function lineOf(
  { line, now }: Ports,
  { place, workloadId, resources }: PlaceInput,
): Promise<{ ahead: WaitingRequest[]; join: () => Promise<void> }> {
  if (place === undefined) return { ahead: [], join: async () => undefined };
  const { priority, sinceMs, seenForMs } = place;
  const all = await line.list();
  const seen = all.filter(({ seenMs }) => now() - seenMs <= seenForMs);
  const own = seen.find(({ request }) => request.workloadId === workloadId);
  return {
    ahead: aheadOf(
      seen.map(({ request }) => request),
      { workloadId, priority, sinceMs },
    ),
    // A recent entry is good enough: a long line must not be rewritten with every question.
    join: async () => {
      if (own === undefined || now() - own.seenMs > seenForMs / 3 || own.request.priority !== priority) {
        await line.join({ workloadId, priority, sinceMs, resources });
      }
    },
  };
}

/** Takes a workload that was placed, or has ended, out of the line. */
export function createLeaveLine({ line }: Pick<Ports, 'line'>): ControlActivities['leaveLine'] {
  return ({ workloadId }) => short(() => line.leave(workloadId));
}

/** Resolves the image of a service whose manifest names another image than the one it was placed with. */
export function createResolveImage(ports: { images: ImageCatalog }): ControlActivities['resolveImage'] {
  return ({ image }) => short(() => ports.images.resolve(image));
}
