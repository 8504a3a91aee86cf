/** Whether a host has registered recently enough to be asked. */
import type { HostEntry } from '../../domain/capacity/host-entry.ts';

export interface FreshHostOptions {
  /** Registrations of hosts. */
  readonly host: (hostId: string) => Promise<HostEntry | undefined>;
  /** A host that has not registered for this long is not asked, ms. */
  readonly hostFreshMs: number;
  readonly now: () => number;
}

/** @returns the host's registration; undefined where it is missing or too old. @throws what `host` throws */
export async function freshHost(options: FreshHostOptions, hostId: string): Promise<HostEntry | undefined> {
  const entry = await options.host(hostId);
  return entry !== undefined && isFresh(options, entry) ? entry : undefined;
}

export function isFresh(
  { hostFreshMs, now }: Pick<FreshHostOptions, 'hostFreshMs' | 'now'>,
  { at }: HostEntry,
): boolean {
  return now() - Date.parse(at) <= hostFreshMs;
}
