import type { HostDirectory } from '../../ports/documents.ts';
import { short } from '../activity-frame.ts';
import type { ControlActivities } from '../activity-types.ts';

/** Age of a host's registry entry. A store that cannot be read is an error, never an age. */
export function createCheckHost(ports: { hosts: HostDirectory; now: () => number }): ControlActivities['checkHost'] {
  return ({ hostId }) =>
    short(async () => {
      const entry = await ports.hosts.read(hostId);
      return { ageMs: entry === undefined ? null : Math.max(0, ports.now() - Date.parse(entry.at)) };
    });
}
