/** Answers of a host's data plane to the gateway. Bearer: the host token of the stack. */
import { z } from 'zod';
import { hostIdSchema, runIdSchema } from '../identifiers.ts';
import { numberedLogEntrySchema } from '../store/workload-documents.ts';

/** Most entries of one answer. */
export const MAX_HOST_LOG_ENTRIES = 1000;

/** @returns path of a workload's log on a host. */
export function hostLogsPath(workloadId: string): string {
  return `/v1/workloads/${workloadId}/logs`;
}

/** Query of `GET /v1/workloads/<id>/logs`, as text. */
export const hostLogsQuerySchema = z.object({
  /** Absent: the newest epoch that this host has a spool of. */
  epoch: z.coerce.number().int().min(0).max(999_999).exactOptional(),
  /** Only entries with a greater `n`; absent: from the first. */
  after: z.coerce.number().int().min(0).exactOptional(),
  limit: z.coerce.number().int().min(1).max(MAX_HOST_LOG_ENTRIES).default(MAX_HOST_LOG_ENTRIES),
});

/** Entries of one spool in the order of `n`. 404 where the host has no spool of it. */
export const hostLogsReplySchema = z.object({
  entries: z.array(numberedLogEntrySchema).max(MAX_HOST_LOG_ENTRIES),
  writer: hostIdSchema,
  epoch: z.int().min(0),
});
export type HostLogsReply = z.infer<typeof hostLogsReplySchema>;

/** @returns the path that waits for the next lines of a workload's log. */
export function hostFollowPath(workloadId: string): string {
  return `${hostLogsPath(workloadId)}/follow`;
}

/** Longest time that a host may be asked to hold a request, ms. */
export const MAX_FOLLOW_MS = 60_000;

const markSchema = z.string().regex(/^[a-z0-9-]{1,40}$/);

/** Query of `GET /v1/workloads/<id>/logs/follow`, as text. */
export const hostFollowQuerySchema = hostLogsQuerySchema.extend({
  /** Mark of the previous answer; the host answers at once where its mark has changed since. */
  mark: markSchema.exactOptional(),
  /** How long to wait at most, ms; a host may answer earlier. */
  waitMs: z.coerce.number().int().min(0).max(MAX_FOLLOW_MS),
});

/**
 * Sent when there are entries, when the mark has changed, or when the time is over. The mark stands for the host's
 * current work on the workload: it changes when a piece of work begins or ends. No mark: the host does no work for it
 * and holds no request, because changes happen elsewhere. 429 where the host already holds as many requests as it may.
 */
export const hostFollowReplySchema = hostLogsReplySchema.extend({
  /** Absent: the host has no log of it. */
  epoch: z.int().min(0).exactOptional(),
  mark: markSchema.exactOptional(),
});
export type HostFollowReply = z.infer<typeof hostFollowReplySchema>;

/** @returns the path that waits for output of a run: of a turn of a session, in one VM. */
export function runOutputPath(vmId: string, turn: number | string): string {
  return `/v1/vms/${vmId}/runs/${turn}/output`;
}

/** Most output of one answer, bytes. */
export const MAX_OUTPUT_BYTES = 256 * 1024;
const positionSchema = z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER);

/** Query of `GET /v1/vms/<id>/runs/<turn>/output`, as text. */
export const runOutputQuerySchema = z.object({
  /** Position behind the last byte that the reader has. */
  after: positionSchema.default(0),
  waitMs: z.coerce.number().int().min(0).max(MAX_FOLLOW_MS).default(0),
});

/** A piece of the output of a run. Positions count the bytes of both streams together. */
export const outputPieceSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.enum(['stdout', 'stderr']), offset: z.int().min(0), base64: z.base64() }),
  z.object({ kind: z.literal('gap'), offset: z.int().min(0), bytes: z.int().min(1) }),
]);
export type OutputPiece = z.infer<typeof outputPieceSchema>;

/** Sent when there is output, when the run has ended, or when the time is over. */
export const runOutputReplySchema = z.object({
  pieces: z.array(outputPieceSchema),
  /** Nothing follows: the run has ended on this host, however. */
  isLast: z.boolean(),
  /** The run that has this turn in the VM, once one has it. */
  runId: runIdSchema.exactOptional(),
});
export type RunOutputReply = z.infer<typeof runOutputReplySchema>;

/** @returns path of what a VM uses (`vmUsageSchema`): 404 where the host has no such VM, or its process is gone. */
export function vmUsagePath(vmId: string): string {
  return `/v1/vms/${vmId}/usage`;
}
