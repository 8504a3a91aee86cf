/** What the API says of images. */
import { z } from 'zod';
import { digestSchema, imageNameSchema, imageTagSchema, isoTimeSchema } from '../identifiers.ts';

/** A tag: also the form of `images/<name>/tags/<tag>.json`, the only thing of an image that may change. */
export const imageViewSchema = z.object({
  name: imageNameSchema,
  tag: imageTagSchema,
  digest: digestSchema,
  publishedAt: isoTimeSchema,
});
export type ImageView = z.infer<typeof imageViewSchema>;

export const imageListSchema = z.object({ items: z.array(imageViewSchema) });
