/** What a host's data plane answers the gateway. Bearer: the host token of the stack. */
import { z } from 'zod';
import { hostIdSchema } from '../identifiers.ts';
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
  /** Entries with a greater `n` are wanted; absent: from the first. */
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

/** @returns path of what a VM uses (`vmUsageSchema`): 404 where the host has no such VM, or its process is gone. */
export function vmUsagePath(vmId: string): string {
  return `/v1/vms/${vmId}/usage`;
}
