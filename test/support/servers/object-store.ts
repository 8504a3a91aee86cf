/** The real S3 server of the test run, with one bucket for each test file. */
import { randomUUID } from 'node:crypto';
import { inject } from 'vitest';
import { createObjectStore, type ObjectStore, type ObjectStoreOptions } from '../../../store/object-store.ts';
import { prefixedStore } from '../../../store/prefixed-store.ts';
import type { TestS3 } from './servers.global.ts';

interface StoreOverrides {
  readonly endpoint?: string;
  readonly bucket?: string;
  readonly prefix?: string;
}

/** @returns a store on a new bucket of its own. The bucket is removed with the server of the run. */
export function freshObjectStore(overrides: StoreOverrides = {}): Promise<ObjectStore> {
  return freshBucket(inject('s3'), overrides);
}

/** Settings with which another process reaches a bucket of the run's server. */
export function storeOptions(bucket: string, s3: TestS3 = inject('s3')): ObjectStoreOptions {
  const { endpoint, region, accessKeyId, secretAccessKey } = s3;
  return {
    endpoint,
    region,
    bucket,
    forcePathStyle: true,
    credentials: { accessKeyId, secretAccessKey },
    timeouts: { connectMs: 1_000, idleMs: 5_000, attempts: 2 },
  };
}

/** Like `freshObjectStore`, for programs that have started the server themselves. */
export async function freshBucket(s3: TestS3, overrides: StoreOverrides = {}): Promise<ObjectStore> {
  const options = storeOptions(overrides.bucket ?? `test-${randomUUID()}`, s3);
  const wholeBucket = createObjectStore({ ...options, endpoint: overrides.endpoint ?? s3.endpoint });
  const store = prefixedStore(wholeBucket, overrides.prefix);
  if (overrides.bucket === undefined) await store.ensureBucket();
  return store;
}
