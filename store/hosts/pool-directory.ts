/** The state of each host's pool: one document each, rewritten by the host when something has changed. */
import { poolStatusSchema } from '../../contracts/api/pool.ts';
import { storeKeys } from '../../domain/names.ts';
import type { PoolStatus } from '../../domain/pool/pool-status.ts';
import type { ObjectStore } from '../object-store.ts';

/** @returns the last document of every host. @throws STORE_UNAVAILABLE */
export async function listPools(store: ObjectStore): Promise<PoolStatus[]> {
  const found: PoolStatus[] = [];
  for await (const { key } of store.listAll(storeKeys.pools)) {
    const document = await store.readDocument(key, poolStatusSchema);
    if (document !== undefined) found.push(document.value);
  }
  return found;
}
