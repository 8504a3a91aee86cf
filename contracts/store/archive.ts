/** What the archive stores of a closed workflow, besides the result that the workflow itself has written. */
import { z } from 'zod';
import { hostIdSchema, isoTimeSchema, sha256Schema, workloadIdSchema } from '../identifiers.ts';

const executionId = z.string().regex(/^[A-Za-z0-9-]{1,64}$/);

/** `archive/<workflow id>/executions/<execution id>.json`: written after the events themselves. */
export const executionDocumentSchema = z.strictObject({
  schemaVersion: z.literal(1),
  workflowId: z.string().min(1).max(1000),
  executionId,
  /** Execution that this one continues (continue-as-new). */
  continuedFrom: executionId.exactOptional(),
  events: z.int().min(1),
  /** Of the compressed bytes, hex. */
  sha256: sha256Schema,
  /** Compressed. */
  bytes: z.int().min(1),
  recordedAt: isoTimeSchema,
});
export type ExecutionDocument = z.infer<typeof executionDocumentSchema>;

/** `archive/<workflow id>/history.json`: where it exists, the history is complete. Executions, the first one first. */
export const historyDocumentSchema = z.strictObject({
  schemaVersion: z.literal(1),
  workflowId: z.string().min(1).max(1000),
  executions: z.array(executionDocumentSchema.pick({ executionId: true, events: true, sha256: true, bytes: true })),
  recordedAt: isoTimeSchema,
  /** What was recorded was deleted then, with the session that it was of: this stub stays, and nothing is recorded again. */
  deletedAt: isoTimeSchema.exactOptional(),
});
export type HistoryDocument = z.infer<typeof historyDocumentSchema>;

/** `archive/workload/<id>/released/<hostId>.json`: that host holds nothing of the workload any more. */
export const releaseDocumentSchema = z.strictObject({
  schemaVersion: z.literal(1),
  workloadId: workloadIdSchema,
  hostId: hostIdSchema,
  /** When that was proven. */
  freedAt: isoTimeSchema,
});
export type ReleaseDocument = z.infer<typeof releaseDocumentSchema>;

/** `maintenance/recorder.json`: everything closed before is recorded. Without it, the recorder reads everything. */
export const recorderPositionSchema = z.strictObject({ schemaVersion: z.literal(1), closedBefore: isoTimeSchema });

/** The history of one execution, on its way from Temporal to the archive. */
export interface ExecutionHistory {
  readonly workflowId: string;
  readonly executionId: string;
  /** Execution that this one continues. */
  readonly continuedFrom?: string;
  readonly events: number;
  /** Made by `historyToJSON` of the SDK. */
  readonly json: string;
}
