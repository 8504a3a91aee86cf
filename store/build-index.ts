/** Which tar a build with a cache key made. Written once: the first build of a key is the one that counts. */
import { buildIndexSchema } from '../contracts/build-index.ts';
import { storeKeys } from '../domain/names.ts';
import type { ObjectStore } from './object-store.ts';
import { writeOnce } from './workload-documents.ts';

export interface IndexedBuild {
  /** Hex; the tar lies under `storeKeys.blob(sha256)`. */
  readonly sha256: string;
  readonly bytes: number;
}

/** @returns undefined where nothing was built with this key. */
export async function findBuild(store: ObjectStore, cacheKey: string): Promise<IndexedBuild | undefined> {
  const found = await store.readDocument(storeKeys.build(cacheKey), buildIndexSchema);
  return found === undefined ? undefined : { sha256: found.value.sha256, bytes: found.value.bytes };
}

/** @returns the build that stands under the key now: this one, or the one that came first. */
export async function recordBuild(store: ObjectStore, cacheKey: string, build: IndexedBuild): Promise<IndexedBuild> {
  const document = { schemaVersion: 1, sha256: build.sha256, bytes: build.bytes };
  if (await writeOnce(store, storeKeys.build(cacheKey), document)) return build;
  return (await findBuild(store, cacheKey)) ?? build;
}
