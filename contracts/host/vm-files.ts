/** Files of a session's VM at the data plane of its host. Bearer: the host token of the stack. */
import { z } from 'zod';
import { MAX_WORKSPACE_PATH, workspacePathProblem } from '../../domain/session/workspace-path.ts';
import { VM_ID_PATTERN } from './instance-record.ts';

/** Media type of the content of a file. */
export const FILE_TYPE = 'application/octet-stream';

/** @returns path of one file (`?path=`): GET, HEAD, PUT, DELETE. */
export function vmFilesPath(vmId: string): string {
  return `/v1/vms/${vmId}/files`;
}

/** @returns path of the listing of a folder (`?dir=`; none: /workspace). */
export function vmFileListPath(vmId: string): string {
  return `${vmFilesPath(vmId)}/list`;
}

export const vmParamsSchema = z.object({ vmId: z.string().regex(VM_ID_PATTERN) });

const path = z
  .string()
  .max(MAX_WORKSPACE_PATH)
  .refine((text) => workspacePathProblem(text) === undefined, 'is no path in the workspace');

/** Whom the caller takes for the owner of the VM, as text. */
const ownerSchema = z.object({
  workflowId: z.string().min(1).max(1024),
  epoch: z.coerce.number().int().min(0),
});

export const vmFileQuerySchema = ownerSchema.extend({ path });
export const vmFileListQuerySchema = ownerSchema.extend({ dir: path.or(z.literal('')).default('') });

/** Headers of GET and HEAD beside `content-length`: what it is, and when it was changed (ISO 8601). */
export const FILE_KIND_HEADER = 'x-kiln-kind';
export const FILE_TIME_HEADER = 'x-kiln-modified-at';

export const workspaceEntrySchema = z.object({
  name: z.string(),
  kind: z.enum(['file', 'folder', 'link', 'other']),
  bytes: z.number().min(0),
  modifiedAt: z.iso.datetime(),
});

export const vmFileListSchema = z.object({ entries: z.array(workspaceEntrySchema), isCut: z.boolean() });
export const vmFileWrittenSchema = z.object({ created: z.boolean() });
