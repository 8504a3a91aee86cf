/** `builds/<cache key>.json`: which tar a build with this key made. Written once. */
import { z } from 'zod';
import { sha256Schema } from '../identifiers.ts';

export const buildIndexSchema = z.strictObject({
  schemaVersion: z.literal(1),
  sha256: sha256Schema,
  bytes: z.int().min(0),
});
export type BuildIndex = z.infer<typeof buildIndexSchema>;
