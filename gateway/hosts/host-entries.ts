/** Registrations of hosts as they were read lately: whoever follows a run does not wait for the store. */
import { LRUCache } from 'lru-cache';
import { within } from '../../concurrency/deadline.ts';
import type { HostEntry } from '../../domain/capacity/host-entry.ts';
import { isKilnError } from '../../domain/failures.ts';
import { type FreshHostOptions, isFresh } from './fresh-host.ts';

const MAX_HOSTS = 10_000;

export interface HostEntries {
  /**
   * Answers what is known, and reads an older entry again behind the answer.
   * @param options `newest`: only what is new will do, and is waited for
   * @returns undefined where the host has not registered lately. @throws what `read` throws, where nothing is known
   */
  read(hostId: string, options?: { readonly newest?: boolean }): Promise<HostEntry | undefined>;
  /** The next to ask reads the entry again: its host did not answer under that address. */
  forget(hostId: string): void;
}

export interface HostEntriesOptions extends FreshHostOptions {
  /** How long an entry counts as new, ms: hosts register again as often. */
  readonly hostNewMs: number;
  /** How long a newer entry is waited for in place of one that is too old, ms: then the old address may do. */
  readonly newerWaitMs: number;
}

export function createHostEntries(options: HostEntriesOptions): HostEntries {
  const { hostNewMs, newerWaitMs } = options;
  const entries = new LRUCache<string, HostEntry>({
    max: MAX_HOSTS,
    ttl: hostNewMs,
    fetchMethod: (hostId) => options.host(hostId),
    noDeleteOnStaleGet: true,
    noDeleteOnFetchRejection: true,
  });
  /**
   * How often each was forgotten since it was read. Not deleted: that would fail the reading that others wait for. A
   * reading that had begun before may answer once more.
   */
  const forgotten = new LRUCache<string, number>({ max: MAX_HOSTS });
  return {
    async read(hostId, { newest = false } = {}) {
      const times = forgotten.get(hostId);
      const isForgotten = times !== undefined;
      const known = await entries.fetch(hostId, { allowStale: !newest && !isForgotten, forceRefresh: isForgotten });
      if (known !== undefined && forgotten.get(hostId) === times) forgotten.delete(hostId);
      if (known === undefined || isFresh(options, known)) return known;
      if (newest) return undefined;
      // It may only be old because nobody has asked for long.
      const reading = entries.fetch(hostId, { allowStale: false }).then(
        (entry) => ({ entry }),
        () => undefined,
      );
      const newer = await within(reading, newerWaitMs);
      if (newer === undefined) return known;
      return newer.entry !== undefined && isFresh(options, newer.entry) ? newer.entry : undefined;
    },
    forget: (hostId) => void forgotten.set(hostId, (forgotten.get(hostId) ?? 0) + 1),
  };
}

/** @returns the call of a host, after which the entry of one that did not answer is read again */
export function forgetting<Of, How extends { readonly signal: AbortSignal }, T>(
  entries: Pick<HostEntries, 'forget'>,
  call: (host: HostEntry, of: Of, how: How) => Promise<T>,
): (host: HostEntry, of: Of, how: How) => Promise<T> {
  return async (host, of, how) => {
    try {
      return await call(host, of, how);
    } catch (error) {
      // Where the caller has left, it is not the host that did not answer.
      if (!how.signal.aborted && isKilnError(error, 'HOST_LOST')) entries.forget(host.hostId);
      throw error;
    }
  };
}
