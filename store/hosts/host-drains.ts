/** Which hosts are to take no new work: one document a host, written by an operator, obeyed by the host. */
import { type HostDrain, hostDrainSchema } from '../../contracts/store/host-entry.ts';
import { storeKeys } from '../../domain/names.ts';
import type { ObjectStore } from '../object-store.ts';

/** @returns whether a host is to take no new work; false where nobody ever said so. @throws STORE_UNAVAILABLE */
export async function isDrained(store: ObjectStore, hostId: string): Promise<boolean> {
  return (await store.readDocument(storeKeys.hostDrain(hostId), hostDrainSchema))?.value.draining ?? false;
}

/** Says so, or that it may again; the last word counts. @throws STORE_UNAVAILABLE */
export async function writeHostDrain(store: ObjectStore, drain: HostDrain): Promise<void> {
  await store.writeDocument(storeKeys.hostDrain(drain.hostId), drain);
}
