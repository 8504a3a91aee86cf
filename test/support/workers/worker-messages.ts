/** Messages to a process of a test, and its replies. */
import { z } from 'zod';
import type { createObjectStore } from '../../../store/object-store.ts';
import { PORT_ERRORS } from './port-errors.ts';

const s3Schema = z.object({
  endpoint: z.string(),
  region: z.string(),
  bucket: z.string(),
  accessKeyId: z.string(),
  secretAccessKey: z.string(),
});

export const childSpecSchema = z.object({
  role: z.enum(['host', 'control', 'gateway']),
  temporalAddress: z.string(),
  namespace: z.string(),
  /** Folder for the state and sockets of the host. */
  directory: z.string(),
  hostId: z.string(),
  guests: z.enum(['fake', 'qemu']),
  /** Of the host, ms; default: those of Kiln. */
  leases: z.exactOptional(z.object({ leaseMs: z.number(), lookMs: z.number(), askMs: z.number() })),
  s3: s3Schema,
  /** Path of the bundle for a control worker. */
  workflowBundle: z.string(),
});

export const childCommandSchema = z.object({
  kind: z.enum(['hold', 'fail']),
  id: z.string(),
  port: z.string(),
  moment: z.enum(['before', 'after']),
  /** Whose call is meant; an absent property matches everybody. */
  by: z.object({ workloadId: z.exactOptional(z.string()), activity: z.exactOptional(z.string()) }),
  /** The error of a call that fails. */
  error: z.enum(PORT_ERRORS),
});

export const childReplySchema = z.union([
  z.object({ kind: z.literal('ready'), url: z.exactOptional(z.string()) }),
  z.object({ kind: z.enum(['set', 'reached']), id: z.string() }),
]);

export type Role = z.infer<typeof childSpecSchema>['role'];
export type ChildSpec = z.infer<typeof childSpecSchema>;
export type ChildCommand = z.infer<typeof childCommandSchema>;

export function objectStoreOptions(s3: ChildSpec['s3']): Parameters<typeof createObjectStore>[0] {
  const { endpoint, region, bucket, accessKeyId, secretAccessKey } = s3;
  return {
    endpoint,
    region,
    bucket,
    credentials: { accessKeyId, secretAccessKey },
    forcePathStyle: true,
    timeouts: { connectMs: 1_000, idleMs: 5_000, attempts: 2 },
  };
}
