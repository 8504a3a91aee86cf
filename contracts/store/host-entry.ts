/** `hosts/<hostId>.json`, and hosts in the API. */
import { z } from 'zod';
import type { HostEntry } from '../../domain/capacity/host-entry.ts';
import { hostIdSchema, isoTimeSchema } from '../identifiers.ts';

const capacity = z.object({ vcpus: z.number().min(0), memMib: z.number().min(0) });

export const hostEntrySchema = z.object({
  hostId: hostIdSchema,
  url: z.url(),
  at: isoTimeSchema,
  capacity,
  free: capacity,
  memory: z
    .object({ availableMib: z.number().min(0), floorMib: z.number().min(0), vmsMib: z.number().min(0) })
    .exactOptional()
    .meta({ description: 'Memory as it is, not as it is promised.' }),
  load: z.number().min(0),
  images: z.array(z.string().max(256)).max(1000),
  driver: z.string().max(64),
  versions: z.record(z.string().max(64), z.string().max(256)),
  draining: z.boolean(),
}) satisfies z.ZodType<HostEntry>;

/** `drains/<hostId>.json`: whether an operator wants to drain a host; the host obeys at its next registration. */
export const hostDrainSchema = z.object({ hostId: hostIdSchema, draining: z.boolean(), at: isoTimeSchema });
export type HostDrain = z.infer<typeof hostDrainSchema>;

export const hostListSchema = z.object({ items: z.array(hostEntrySchema) });
