/**
 * Entries of saved workspaces as JSON: names and targets in base64, since they are bytes and not text. Agents send them
 * so, and manifests hold them so, with the place of each chunk.
 */
import { z } from 'zod';
import {
  type Chunk,
  isWorkspacePath,
  type SkippedPath,
  WORKSPACE_LIMITS,
  type WorkspaceEntry,
} from '../domain/session/workspace.ts';

const MAX_ID = 0xffff_fffe;
const MAX_XATTRS = 1000;

const latin1OfBase64 = z
  .string()
  .regex(/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/)
  .transform((text) => Buffer.from(text, 'base64').toString('latin1'));

/** A path within a workspace. */
export const workspacePathSchema = latin1OfBase64.refine(isWorkspacePath, 'is no path within a workspace');

const targetSchema = latin1OfBase64.refine(
  (target) => target !== '' && target.length <= WORKSPACE_LIMITS.pathBytes && !target.includes('\0'),
  'is no target of a link',
);
const xattrsSchema = z.record(
  z
    .string()
    .max(255)
    .regex(/^(?:user\.[^\0]+|security\.capability)$/),
  z.base64().max(Math.ceil(WORKSPACE_LIMITS.xattrBytes / 3) * 4),
);
const owned = {
  path: workspacePathSchema,
  uid: z.int().min(0).max(MAX_ID),
  gid: z.int().min(0).max(MAX_ID),
  // ext4 goes to the year 2446.
  mtimeNs: z.string().regex(/^(?:0|-?[1-9]\d{0,19})$/),
};
const withMode = {
  ...owned,
  mode: z.int().min(0).max(0o7777),
  xattrs: xattrsSchema.refine((xattrs) => Object.keys(xattrs).length <= MAX_XATTRS, 'are too many').exactOptional(),
};

/** `[id, bytes]`; an empty id is a hole. */
export const chunkSchema = z
  .tuple([z.string().regex(/^(?:[0-9a-f]{64})?$/), z.int().min(1)])
  .refine(
    ([id, bytes]) => bytes <= (id === '' ? WORKSPACE_LIMITS.bytes : WORKSPACE_LIMITS.chunkBytes),
    'is larger than a chunk may be',
  )
  .transform(([id, bytes]): Chunk => ({ id, bytes }));

/** @param chunk how chunks of files are written */
export function workspaceEntrySchema<C extends Chunk>(chunk: z.ZodType<C>): z.ZodType<WorkspaceEntry<C>> {
  return z.discriminatedUnion('type', [
    z.strictObject({ type: z.literal('folder'), ...withMode }),
    z.strictObject({
      type: z.literal('file'),
      ...withMode,
      size: z.int().min(0).max(WORKSPACE_LIMITS.bytes),
      chunks: z.array(chunk).readonly(),
    }),
    z.strictObject({ type: z.literal('symlink'), ...owned, target: targetSchema }),
    z.strictObject({
      type: z.literal('hardlink'),
      path: workspacePathSchema,
      target: workspacePathSchema.refine((target) => target !== '', 'is no file'),
    }),
  ]);
}

/** Paths that a save leaves out. */
export const skippedPathSchema: z.ZodType<SkippedPath> = z.object({
  path: workspacePathSchema,
  type: z.enum(['socket', 'pipe', 'device', 'mount']),
});

/**
 * @param chunkJson how a chunk is written
 * @returns the entry as the value that its JSON is of, always with the same order of fields
 */
export function entryToJson<C extends Chunk>(entry: WorkspaceEntry<C>, chunkJson: (chunk: C) => unknown): unknown {
  const path = base64(entry.path);
  if (entry.type === 'hardlink') return { path, type: entry.type, target: base64(entry.target) };
  const { type, uid, gid, mtimeNs } = entry;
  if (entry.type === 'symlink') return { path, type, uid, gid, mtimeNs, target: base64(entry.target) };
  const { mode, xattrs } = entry;
  const common = { path, type, mode, uid, gid, mtimeNs };
  const more = xattrs === undefined ? {} : { xattrs: sorted(xattrs) };
  if (entry.type === 'folder') return { ...common, ...more };
  return { ...common, size: entry.size, chunks: entry.chunks.map(chunkJson), ...more };
}

const base64 = (latin1: string) => Buffer.from(latin1, 'latin1').toString('base64');

function sorted(record: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)));
}
