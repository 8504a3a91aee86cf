/** Whether a host has registered recently enough to be asked. */
import type { HostEntry } from '../../domain/capacity/host-entry.ts';

export interface FreshHostOptions {
  /** Registrations of hosts. */
  readonly host: (hostId: string, options?: { readonly newest?: boolean }) => Promise<HostEntry | undefined>;
  /** A host that has not registered for this long is not asked, ms. */
  readonly hostFreshMs: number;
  readonly now: () => number;
}

/**
 * @param options `newest`: for work that must not be tried again at another address
 * @returns the host's registration; undefined where it is missing or too old. @throws what `host` throws
 */
export async function freshHost(
  { host, hostFreshMs, now }: FreshHostOptions,
  hostId: string,
  options?: { readonly newest?: boolean },
): Promise<HostEntry | undefined> {
  const entry = await host(hostId, options);
  return entry === undefined || now() - Date.parse(entry.at) > hostFreshMs ? undefined : entry;
}
