/** What the archive keeps of a workflow that is over, beside the result that the workflow itself has written. */
import { z } from 'zod';
import { hostIdSchema, isoTimeSchema, sha256Schema, workloadIdSchema } from '../identifiers.ts';

const executionId = z.string().regex(/^[A-Za-z0-9-]{1,64}$/);

/** `archive/<workflow id>/executions/<execution id>.json`: written after the events themselves. */
export const executionDocumentSchema = z.strictObject({
  schemaVersion: z.literal(1),
  workflowId: z.string().min(1).max(1000),
  executionId,
  /** Execution that this one went on from by continue-as-new. */
  continuedFrom: executionId.exactOptional(),
  events: z.int().min(1),
  /** Of the compressed bytes, hex. */
  sha256: sha256Schema,
  /** Compressed. */
  bytes: z.int().min(1),
  recordedAt: isoTimeSchema,
});
export type ExecutionDocument = z.infer<typeof executionDocumentSchema>;

/** `archive/<workflow id>/history.json`: where it is, the whole history is. Executions in order, the first one first. */
export const historyDocumentSchema = z.strictObject({
  schemaVersion: z.literal(1),
  workflowId: z.string().min(1).max(1000),
  executions: z
    .array(executionDocumentSchema.pick({ executionId: true, events: true, sha256: true, bytes: true }))
    .min(1),
  recordedAt: isoTimeSchema,
});
export type HistoryDocument = z.infer<typeof historyDocumentSchema>;

/** `archive/workload/<id>/released/<hostId>.json`: nothing of the workload is held on that host any more. */
export const releaseDocumentSchema = z.strictObject({
  schemaVersion: z.literal(1),
  workloadId: workloadIdSchema,
  hostId: hostIdSchema,
  /** When that was proven. */
  freedAt: isoTimeSchema,
});
export type ReleaseDocument = z.infer<typeof releaseDocumentSchema>;

/** `maintenance/recorder.json`: everything that closed before is recorded. Without it everything is looked at anew. */
export const recorderPositionSchema = z.strictObject({ schemaVersion: z.literal(1), closedBefore: isoTimeSchema });

/** One execution's history on its way from Temporal into the archive. */
export interface ExecutionHistory {
  readonly workflowId: string;
  readonly executionId: string;
  /** Execution that this one went on from. */
  readonly continuedFrom?: string;
  readonly events: number;
  /** As `historyToJSON` of the SDK makes it. */
  readonly json: string;
}
