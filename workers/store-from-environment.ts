import type { KilnEnvironment } from '../config/environment.ts';
import { KilnError } from '../domain/failures.ts';
import { createObjectStore, type ObjectStore } from '../store/object-store.ts';
import { prefixedStore } from '../store/prefixed-store.ts';

/** Timeouts and retries of a process for the object store. */
const TIMEOUTS = { connectMs: 2_000, idleMs: 10_000, attempts: 3 };

/** @returns the object store of the environment. @throws CONFIG_INVALID, naming what is missing */
export function storeFromEnvironment(env: KilnEnvironment): ObjectStore {
  const { KILN_S3_ENDPOINT: endpoint, KILN_S3_ACCESS_KEY: accessKeyId, KILN_S3_SECRET_KEY: secretAccessKey } = env;
  if (endpoint === undefined || accessKeyId === undefined || secretAccessKey === undefined) {
    throw new KilnError('CONFIG_INVALID', 'Set KILN_S3_ENDPOINT, KILN_S3_ACCESS_KEY and KILN_S3_SECRET_KEY.');
  }
  const store = createObjectStore({
    endpoint,
    region: env.KILN_S3_REGION,
    bucket: env.KILN_S3_BUCKET,
    credentials: { accessKeyId, secretAccessKey },
    forcePathStyle: true,
    timeouts: TIMEOUTS,
  });
  return prefixedStore(store, env.KILN_S3_PREFIX);
}
