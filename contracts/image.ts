/** Images in the store: tags, and what the API says of them. */
import { z } from 'zod';
import { digestSchema, imageNameSchema, imageTagSchema, isoTimeSchema } from './identifiers.ts';

/** `images/<name>/tags/<tag>.json`: the only thing of an image that may change. */
export const imageTagDocumentSchema = z.strictObject({
  schemaVersion: z.literal(1),
  name: imageNameSchema,
  tag: imageTagSchema,
  digest: digestSchema,
  updatedAt: isoTimeSchema,
});
export type ImageTagDocument = z.infer<typeof imageTagDocumentSchema>;

export const imageViewSchema = z.object({
  name: imageNameSchema,
  tag: imageTagSchema,
  digest: digestSchema,
  updatedAt: isoTimeSchema,
});
export type ImageView = z.infer<typeof imageViewSchema>;

export const imageListSchema = z.object({ items: z.array(imageViewSchema) });
