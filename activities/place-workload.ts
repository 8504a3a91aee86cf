import { decidePlacement } from '../domain/placement.ts';
import { short } from './activity-frame.ts';
import type { ControlActivities } from './activity-types.ts';
import type { HostDirectory, ImageCatalog } from './ports.ts';

/** Resolves the image once and picks the least loaded host that fits. */
export function createPlaceWorkload(ports: {
  hosts: HostDirectory;
  images: ImageCatalog;
  now: () => number;
}): ControlActivities['placeWorkload'] {
  return (input) =>
    short(async () => {
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
