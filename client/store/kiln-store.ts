/** The object store for clients: documents of workloads, their logs, and a check that it can be reached. */
import { defined } from '../../domain/defined.ts';
import { createLogChunks } from '../../store/logs/log-chunks.ts';
import { createObjectStore, type StoreCredentials } from '../../store/object-store.ts';
import { prefixedStore } from '../../store/prefixed-store.ts';
import { createWorkloadDocuments } from '../../store/workloads/workload-documents.ts';
import type { WorkloadArchive } from '../temporal/archive/workload-archive.ts';
import type { WorkloadLogs } from '../temporal/workload-logs.ts';

export interface KilnStoreOptions {
  /** URL of the S3 endpoint, e.g. `http://127.0.0.1:7070` or `https://s3.eu-central-1.amazonaws.com`. */
  readonly endpoint: string;
  readonly bucket: string;
  /** Folder of the bucket that Kiln uses: `KILN_S3_PREFIX` of its workers; absent: the whole bucket. */
  readonly prefix?: string;
  /** Default `us-east-1`. */
  readonly region?: string;
  /** Absent: the AWS SDK finds them (environment, profile, role of the machine). */
  readonly credentials?: StoreCredentials;
  /** Bucket in the path instead of the host name; default true. */
  readonly forcePathStyle?: boolean;
  /** To open a TCP connection, ms; default 2,000. */
  readonly connectMs?: number;
  /** Longest time without a byte in either direction, ms; default 10,000. */
  readonly idleMs?: number;
}

export interface KilnStore {
  readonly archive: WorkloadArchive;
  readonly logs: WorkloadLogs;
  /** @throws STORE_UNAVAILABLE where the store does not answer, refuses the credentials, or has no such bucket */
  check(): Promise<void>;
  close(): void;
}

const ATTEMPTS = 3;

/** @returns the store of a Kiln. No request is made until a method is called. @throws CONFIG_INVALID (prefix) */
export function openKilnStore(options: KilnStoreOptions): KilnStore {
  const { endpoint, bucket, prefix, credentials, region = 'us-east-1', forcePathStyle = true } = options;
  const { connectMs = 2_000, idleMs = 10_000 } = options;
  const wholeBucket = createObjectStore({
    endpoint,
    bucket,
    region,
    forcePathStyle,
    ...defined({ credentials }),
    timeouts: { connectMs, idleMs, attempts: ATTEMPTS },
  });
  const store = prefixedStore(wholeBucket, prefix);
  return {
    archive: createWorkloadDocuments(store),
    logs: createLogChunks(store),
    check: async () => {
      await store.list('workloads/', { limit: 1 });
    },
    close: () => store.close(),
  };
}
