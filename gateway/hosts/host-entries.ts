/** Registrations of hosts as they were read lately: whoever follows a run does not wait for the store. */
import { LRUCache } from 'lru-cache';
import type { HostEntry } from '../../domain/capacity/host-entry.ts';
import { isKilnError } from '../../domain/failures.ts';

const MAX_HOSTS = 10_000;

export interface HostEntries {
  /**
   * Answers what is known, and reads an older entry again behind the answer.
   * @param options `newest`: an older entry is not good enough, and the reading is waited for
   * @returns undefined where the host has never registered. @throws what `read` throws, where nothing is known
   */
  read(hostId: string, options?: { readonly newest?: boolean }): Promise<HostEntry | undefined>;
  /** The next to ask reads the entry again: its host did not answer under that address. */
  forget(hostId: string): void;
}

/** @param options.newMs how long an entry counts as new, ms: hosts register again as often */
export function createHostEntries(options: {
  readonly read: (hostId: string) => Promise<HostEntry | undefined>;
  readonly newMs: number;
}): HostEntries {
  const entries = new LRUCache<string, HostEntry>({
    max: MAX_HOSTS,
    ttl: options.newMs,
    fetchMethod: (hostId) => options.read(hostId),
    noDeleteOnStaleGet: true,
    noDeleteOnFetchRejection: true,
  });
  return {
    read: (hostId, { newest = false } = {}) => entries.fetch(hostId, { allowStale: !newest }),
    forget: (hostId) => void entries.delete(hostId),
  };
}

/** @returns the call of a host, after which the entry of one that did not answer is read again */
export function forgetting<Args extends readonly unknown[], T>(
  entries: Pick<HostEntries, 'forget'>,
  call: (host: HostEntry, ...args: Args) => Promise<T>,
): (host: HostEntry, ...args: Args) => Promise<T> {
  return async (host, ...args) => {
    try {
      return await call(host, ...args);
    } catch (error) {
      if (isKilnError(error, 'HOST_LOST')) entries.forget(host.hostId);
      throw error;
    }
  };
}
