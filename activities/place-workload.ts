import { decidePlacement } from '../domain/placement.ts';
import { short } from './activity-frame.ts';
import type { ControlActivities } from './activity-types.ts';
import type { HostDirectory, ImageCatalog } from './ports.ts';

/** Resolves the image once and picks the least loaded host that fits. */
export function createPlaceWorkload(ports: {
  hosts: HostDirectory;
  images: ImageCatalog;
  now: () => number;
  onDispatched?: (latencyMs: number) => void;
}): ControlActivities['placeWorkload'] {
  return (input) =>
    short(async () => {
      if (input.requestedAt !== undefined) ports.onDispatched?.(ports.now() - Date.parse(input.requestedAt));
      const [hosts, image] = await Promise.all([ports.hosts.list(), ports.images.resolve(input.image)]);
      const decision = decidePlacement(hosts, {
        resources: input.resources,
        nowMs: ports.now(),
        freshForMs: input.freshForMs,
        excluded: input.excludedHosts,
      });
      if (decision.kind !== 'candidates') return decision;
      const best = decision.hosts[0];
      if (best === undefined) return { kind: 'wait', reason: 'No host is free.' };
      return { kind: 'placed', hostId: best.hostId, image };
    });
}

/** Resolves the image of a service whose folder says that it is not the one it was placed with. */
export function createResolveImage(ports: { images: ImageCatalog }): ControlActivities['resolveImage'] {
  return ({ image }) => short(() => ports.images.resolve(image));
}
