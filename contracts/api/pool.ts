/** `pools/<hostId>.json`, pools in the API, and their configuration. */
import { z } from 'zod';
import { type PoolSettingOverrides, type PoolSettings, RECYCLE_CAUSES } from '../../domain/pool/pool-policy.ts';
import type { PoolStatus, TemplateSummary } from '../../domain/pool/pool-status.ts';
import { hostIdSchema, isoTimeSchema, projectIdSchema } from '../identifiers.ts';

const count = z.int().min(0);
const DURATION = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/;
const UNIT_MS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** A duration as people write it, e.g. `30s`, `5m`, `6h`. @returns ms */
const durationSchema = z
  .string()
  .regex(DURATION, 'must be a duration such as 30s, 5m or 6h')
  .transform((text) => {
    const [, amount = '0', unit = 'ms'] = DURATION.exec(text) ?? [];
    return Math.round(Number(amount) * UNIT_MS[unit as keyof typeof UNIT_MS]);
  });

const limitShape = {
  pool_size: count.max(1000).exactOptional(),
  max_pool_size: count.max(1000).exactOptional(),
  min_idle: count.max(1000).exactOptional(),
  max_idle_time: durationSchema.exactOptional(),
  snapshots: z
    .strictObject({
      enabled: z.boolean().exactOptional(),
      refresh_interval: durationSchema.exactOptional(),
      max_age: durationSchema.exactOptional(),
    })
    .exactOptional(),
  max_exec_count: z.int().min(1).exactOptional(),
  max_uptime: durationSchema.exactOptional(),
};

/** The configuration file of a pool; `warm`: pools that exist before any request. */
export const poolConfigSchema = z.strictObject({
  ...limitShape,
  warm: z
    .array(
      z.strictObject({
        image: z.string().min(1).max(256),
        vcpus: z.int().min(1).max(256).default(1),
        memMib: z.int().min(16).max(1_048_576).default(512),
        projectId: projectIdSchema.exactOptional(),
      }),
    )
    .max(32)
    .default([]),
});
export type PoolConfig = z.infer<typeof poolConfigSchema>;

/** Durations in ms, as a host reports them. */
const settingsSchema = z.object({
  pool_size: count,
  max_pool_size: count,
  min_idle: count,
  max_idle_time: count,
  snapshots: z.object({ enabled: z.boolean(), refresh_interval: count, max_age: count }),
  max_exec_count: count,
  max_uptime: count,
}) satisfies z.ZodType<PoolSettings>;

const countersSchema = z.object({
  hits: count,
  waits: count,
  misses: count,
  created: count,
  failed: count,
  recycled: z.partialRecord(z.enum(RECYCLE_CAUSES), count),
});

const pooledVmSchema = z.object({
  vmId: z.string().max(64),
  state: z.enum(['creating', 'ready', 'claiming', 'leaving']),
  createdAt: isoTimeSchema,
  execCount: count,
  templateId: z.string().max(256).exactOptional(),
});

const summarySchema = z.object({
  image: z.string().max(256).exactOptional(),
  imageDigest: z.string().max(256),
  vcpus: z.number(),
  memMib: z.number(),
  diskMib: z.number().exactOptional(),
  projectId: z.string().max(256).exactOptional(),
  reason: z.enum(['standing', 'asked', 'superseded', 'unused']),
  target: count,
  lowWater: count,
  ready: count,
  creating: count,
  counters: countersSchema,
  template: z.object({ templateId: z.string().max(256), createdAt: isoTimeSchema }).exactOptional(),
  vms: z.array(pooledVmSchema),
});

const templateSchema = z.object({
  templateId: z.string().max(256),
  image: z.string().max(256),
  imageDigest: z.string().max(256),
  vcpus: z.number(),
  memMib: z.number(),
  diskMib: z.number().exactOptional(),
  projectId: z.string().max(256).exactOptional(),
  createdAt: isoTimeSchema,
  lastUsedAt: isoTimeSchema.exactOptional(),
  bytes: count,
  clones: count,
  state: z.enum(['unverified', 'usable', 'superseded']),
}) satisfies z.ZodType<TemplateSummary>;

export const poolStatusSchema = z.object({
  hostId: hostIdSchema,
  at: isoTimeSchema,
  enabled: z.boolean(),
  settings: settingsSchema,
  counters: countersSchema,
  pools: z.array(summarySchema),
  templates: z.array(templateSchema).exactOptional(),
}) satisfies z.ZodType<PoolStatus>;

export const poolListSchema = z.object({ items: z.array(poolStatusSchema) });

/** The compiler checks the configuration against the domain's type. */
export function poolLimits({ warm: _, ...limits }: PoolConfig): PoolSettingOverrides {
  return limits;
}
