/** Turns of sessions as the API shows them. */
import { z } from 'zod';
import { isoTimeSchema } from '../identifiers.ts';

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
