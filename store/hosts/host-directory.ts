/** The registry of hosts: one document each, rewritten by the host itself every few seconds. */

import { hostEntrySchema } from '../../contracts/store/host-entry.ts';
import type { HostEntry } from '../../domain/capacity/host-entry.ts';
import { storeKeys } from '../../domain/names.ts';
import type { HostDirectory } from '../../ports/documents.ts';
import type { ObjectStore } from '../object-store.ts';

/** @returns the registry of hosts in a store. @throws STORE_UNAVAILABLE */
export function createHostDirectory(store: ObjectStore): HostDirectory {
  const read = async (key: string) => (await store.readDocument(key, hostEntrySchema))?.value;
  return {
    read: (hostId) => read(storeKeys.host(hostId)),
    list: async () => {
      const entries: HostEntry[] = [];
      for await (const { key } of store.listAll(storeKeys.hosts)) {
        const entry = await read(key);
        if (entry !== undefined) entries.push(entry);
      }
      return entries;
    },
  };
}

/** Writes a host's document about itself. */
export async function writeHostEntry(store: ObjectStore, entry: HostEntry): Promise<void> {
  await store.writeDocument(storeKeys.host(entry.hostId), entry);
}
