/** Sources that a caller has uploaded. */
import { z } from 'zod';
import { isoTimeSchema, sha256Schema } from '../identifiers.ts';

/** A tar, and a compressed tar. The digest is always that of the tar itself. */
export const TAR_TYPE = 'application/x-tar';
export const GZIP_TYPE = 'application/gzip';

export const uploadedSourceSchema = z.object({
  /** Of the tar, not compressed; hex. */
  sha256: sha256Schema,
  /** Of the tar, not compressed. */
  bytes: z.int().min(0),
  /** Files and links in it. */
  files: z.int().min(0),
});
export type UploadedSource = z.infer<typeof uploadedSourceSchema>;

/** `sources/<sha256>/source.json`: written after the tar, so where it exists, the tar exists. */
export const sourceDocumentSchema = uploadedSourceSchema.extend({
  schemaVersion: z.literal(1),
  storedAt: isoTimeSchema,
});
export type SourceDocument = z.infer<typeof sourceDocumentSchema>;

/** `sources/<sha256>/retired.json`: new workloads may not use it; later it is removed, or the retirement is undone. */
export const retiredSourceSchema = sourceDocumentSchema.extend({ retiredAt: isoTimeSchema });
