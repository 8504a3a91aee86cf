/** Whether a host is worth asking. */
import type { HostEntry } from '../../domain/capacity/host-entry.ts';

export interface FreshHostOptions {
  /** Registrations of hosts. */
  readonly host: (hostId: string) => Promise<HostEntry | undefined>;
  /** A host that was not heard of for so long is not asked, ms. */
  readonly hostFreshMs: number;
  readonly now: () => number;
}

/** @returns the host's registration; undefined where it was not heard of lately. @throws what `host` throws */
export async function freshHost(
  { host, hostFreshMs, now }: FreshHostOptions,
  hostId: string,
): Promise<HostEntry | undefined> {
  const entry = await host(hostId);
  return entry === undefined || now() - Date.parse(entry.at) > hostFreshMs ? undefined : entry;
}
