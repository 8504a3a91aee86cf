/** The real S3 server of the test run, one bucket for each test file. */
import { randomUUID } from 'node:crypto';
import { inject } from 'vitest';
import { createObjectStore, type ObjectStore } from '../../../store/object-store.ts';
import { prefixedStore } from '../../../store/prefixed-store.ts';
import type { TestS3 } from './servers.global.ts';

interface StoreOverrides {
  readonly endpoint?: string;
  readonly bucket?: string;
  readonly prefix?: string;
}

/** @returns a store on a bucket of its own, made already. The bucket dies with the server of the run. */
export function freshObjectStore(overrides: StoreOverrides = {}): Promise<ObjectStore> {
  return freshBucket(inject('s3'), overrides);
}

/** As `freshObjectStore`, for programs that have started the server themselves. */
export async function freshBucket(s3: TestS3, overrides: StoreOverrides = {}): Promise<ObjectStore> {
  const wholeBucket = createObjectStore({
    endpoint: overrides.endpoint ?? s3.endpoint,
    region: s3.region,
    bucket: overrides.bucket ?? `test-${randomUUID()}`,
    credentials: { accessKeyId: s3.accessKeyId, secretAccessKey: s3.secretAccessKey },
    forcePathStyle: true,
    timeouts: { connectMs: 1_000, idleMs: 5_000, attempts: 2 },
  });
  const store = prefixedStore(wholeBucket, overrides.prefix);
  if (overrides.bucket === undefined) await store.ensureBucket();
  return store;
}
