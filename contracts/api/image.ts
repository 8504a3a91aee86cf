/** Images in the API. */
import { z } from 'zod';
import { digestSchema, imageNameSchema, imageTagSchema, isoTimeSchema } from '../identifiers.ts';

/** A tag: also the content of `images/<name>/tags/<tag>.json`, the only part of an image that may change. */
export const imageViewSchema = z.object({
  name: imageNameSchema,
  tag: imageTagSchema,
  digest: digestSchema,
  publishedAt: isoTimeSchema,
});
export type ImageView = z.infer<typeof imageViewSchema>;

export const imageListSchema = z.object({ items: z.array(imageViewSchema) });
