/** What the object store holds of a workload. */
import { z } from 'zod';
import { jsonOrUndefined } from '../../domain/json-or-undefined.ts';
import { LOG_LEVELS, MAX_LOG_MESSAGE, type NumberedLogEntry } from '../../domain/logs/log-entry.ts';
import type { LogStage } from '../../domain/logs/log-stage.ts';
import { TIERS } from '../../domain/session/tiers.ts';
import { STAGES } from '../../domain/workload/stages.ts';
import type { WorkloadState } from '../../domain/workload/workload.ts';
import { workloadRequestSchema } from '../api/workload-request.ts';
import {
  deploymentIdSchema,
  digestSchema,
  failureCodeSchema,
  hostIdSchema,
  imageNameSchema,
  isoTimeSchema,
  portSchema,
  prioritySchema,
  projectIdSchema,
  servicePathSchema,
  sha256Schema,
  stageSchema,
  workloadIdSchema,
} from '../identifiers.ts';
import type { Same } from '../same-type.ts';

/** `workloads/<id>/spec.json`: written once, before the workflow starts. Only this document holds the environment. */
export const specDocumentSchema = z.strictObject({
  schemaVersion: z.literal(1),
  workloadId: workloadIdSchema,
  /** sha256 (hex) of the canonical form of `request`. */
  hash: sha256Schema,
  request: workloadRequestSchema,
  requestedAt: isoTimeSchema,
});
export type SpecDocument = z.infer<typeof specDocumentSchema>;

/** `workloads/<id>/started.json`: the workflow was started once, so it is never started again. */
export const startedDocumentSchema = z.strictObject({ schemaVersion: z.literal(1), startedAt: isoTimeSchema });

export const stageMoveSchema = z.object({
  seq: z.int().min(1),
  at: isoTimeSchema,
  from: stageSchema,
  to: stageSchema,
  cause: z.string(),
});

export const serviceExitSchema = z.object({
  code: z.int().nullable(),
  signal: z.string().nullable(),
  reason: z.enum(['stopped', 'exited', 'killed', 'vm-lost', 'unknown']),
});

export const leavingSchema = z.object({ cause: z.string(), since: isoTimeSchema });
export const waitingSchema = z.object({
  reason: z.string(),
  since: isoTimeSchema,
  ahead: z.int().min(0).exactOptional(),
});
export const unreleasedSchema = z.object({ name: z.string(), hostId: z.string(), message: z.string() });

/** State of a workload as its workflow reports it: query answer, result, failure details, `result.json`. */
export const workloadStateSchema = z.object({
  workloadId: workloadIdSchema,
  deploymentId: deploymentIdSchema.exactOptional(),
  projectId: projectIdSchema.exactOptional(),
  servicePath: servicePathSchema,
  stage: stageSchema,
  leaving: leavingSchema.exactOptional(),
  waiting: waitingSchema.exactOptional(),
  priority: prioritySchema.exactOptional(),
  image: z.object({ name: imageNameSchema, digest: digestSchema }).exactOptional(),
  vm: z
    .object({
      hostId: hostIdSchema,
      epoch: z.int().min(0),
      boot: z.int().min(0),
      vmId: z.string(),
      pid: z.int().exactOptional(),
      port: portSchema.exactOptional(),
      url: z.string().exactOptional(),
    })
    .exactOptional(),
  exit: serviceExitSchema.exactOptional(),
  failure: z
    .object({ code: failureCodeSchema, message: z.string(), stage: stageSchema, stack: z.string().exactOptional() })
    .exactOptional(),
  notes: z.array(z.string()),
  unreleased: z.array(unreleasedSchema),
  moves: z.array(stageMoveSchema),
  vmReadyMs: z.number().exactOptional(),
  createdAt: isoTimeSchema,
  updatedAt: isoTimeSchema,
});

const _state: Same<z.infer<typeof workloadStateSchema>, Mutable<WorkloadState>> = true;

/** `archive/workload/<id>/result.json`. */
export const resultDocumentSchema = z.strictObject({ schemaVersion: z.literal(1), state: workloadStateSchema });

/** One line of a log chunk, and of a host's answer. */
export const numberedLogEntrySchema = z.object({
  timestamp: isoTimeSchema,
  stage: stageSchema,
  message: z.string().max(MAX_LOG_MESSAGE),
  level: z.enum(LOG_LEVELS),
  epoch: z.int().min(0),
  writer: z.string().min(1).max(64),
  n: z.int().min(0),
});

const _entry: Same<z.infer<typeof numberedLogEntrySchema>, NumberedLogEntry> = true;

/**
 * Parses one line of a chunk or of a spool.
 * @returns undefined where the text is not such an entry (cut, damaged)
 */
export function parseLogLine<T>(line: string, schema: z.ZodType<T>): T | undefined {
  return schema.safeParse(jsonOrUndefined(line)).data;
}

/** One line in a host's spool, for a log of any owner. */
export const ownerLogEntrySchema = numberedLogEntrySchema.extend({ stage: z.enum([...STAGES, ...TIERS]) });

const _ownerEntry: Same<z.infer<typeof ownerLogEntrySchema>, NumberedLogEntry<LogStage>> = true;

/** zod infers mutable arrays; they have the same content as the readonly lists of the domain. */
type Mutable<T> = T extends readonly (infer Item)[]
  ? Mutable<Item>[]
  : T extends object
    ? { -readonly [Key in keyof T]: Mutable<T[Key]> }
    : T;
