/** Which hosts must take no new work: one document per host, written by an operator, read and followed by the host. */
import { type HostDrain, hostDrainSchema } from '../../contracts/store/host-entry.ts';
import { storeKeys } from '../../domain/names.ts';
import type { ObjectStore } from '../object-store.ts';

/** @returns whether a host must take no new work; false where no document exists. @throws STORE_UNAVAILABLE */
export async function isDrained(store: ObjectStore, hostId: string): Promise<boolean> {
  return (await store.readDocument(storeKeys.hostDrain(hostId), hostDrainSchema))?.value.draining ?? false;
}

/** Starts or ends a host's drain; the last write wins. @throws STORE_UNAVAILABLE */
export async function writeHostDrain(store: ObjectStore, drain: HostDrain): Promise<void> {
  await store.writeDocument(storeKeys.hostDrain(drain.hostId), drain);
}
