/** Files in the workspace of a session as the API shows them, and the turns after which it is kept. */
import { z } from 'zod';
import {
  MAX_WORKSPACE_PATH,
  WORKSPACE_PATH_PATTERN,
  workspacePathProblem,
} from '../../domain/session/workspace-path.ts';
import { isoTimeSchema } from '../identifiers.ts';

const rule = 'must be relative, without "..", ".", empty parts and control characters';

export const workspacePathSchema = z
  .string()
  .max(MAX_WORKSPACE_PATH)
  .regex(WORKSPACE_PATH_PATTERN, rule)
  .refine((path) => workspacePathProblem(path) === undefined, 'is too long, as a whole or in one part')
  .meta({ example: 'notes.txt', description: 'Below /workspace.' });

export const folderSchema = workspacePathSchema
  .exactOptional()
  .meta({ example: 'src', description: 'Below /workspace. Default: /workspace itself.' });

export const fileListSchema = z.object({
  items: z.array(
    z.object({
      name: z.string(),
      kind: z.enum(['file', 'folder', 'link', 'other']),
      bytes: z.number(),
      modifiedAt: isoTimeSchema.meta({ description: "By the guest's clock." }),
    }),
  ),
  isCut: z.boolean().meta({ description: 'The folder has more entries than are listed.' }),
});

export const writtenFileSchema = z.object({
  path: z.string(),
  bytes: z.int(),
  saved: z.boolean().exactOptional().meta({ description: 'With `wait=saved`: whether it is in the store.' }),
});

/** In a path; other spellings of a number are none of a turn. */
const digits = (given: unknown) => (typeof given === 'string' && !/^\d{1,9}$/.test(given) ? undefined : Number(given));

export const turnSchema = z
  .preprocess(digits, z.int().min(0).max(999_999_999))
  .meta({ example: 1, description: 'Number of a run in its thread; 0: files that were written before the first.' });

export const turnListSchema = z.object({ items: z.array(z.object({ turn: z.int() })) });

export const turnViewSchema = z.object({
  turn: z.int(),
  savedAt: isoTimeSchema,
  consistency: z.enum(['quiesced', 'live']).meta({
    description: '`live`: a process of the guest may have written files while they were saved.',
  }),
  entries: z.int(),
  bytes: z.int().meta({ description: 'Of all files, holes included.' }),
  skipped: z.object({
    count: z.int(),
    first: z
      .array(z.object({ path: z.string(), kind: z.enum(['socket', 'pipe', 'device', 'mount']) }))
      .meta({ description: 'Some of what cannot be saved.' }),
  }),
});
