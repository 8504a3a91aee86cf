import type { Readable } from 'node:stream';
import { z } from 'zod';
import { DIGEST_PATTERN, IMAGE_NAME_PATTERN, IMAGE_TAG_PATTERN, storeKeys } from '../../domain/names.ts';
import type { ImageFile } from './manifest.ts';

/** What images need of the object store. */
export interface ImageStore {
  readDocument<T>(key: string, schema: z.ZodType<T>): Promise<{ readonly value: T; readonly etag: string } | undefined>;
  writeDocument(key: string, value: unknown, condition?: 'create' | { readonly etag: string }): Promise<unknown>;
  putBlob(key: string, source: { readonly path: string } | { readonly data: Buffer }): Promise<unknown>;
  /** The stream fails where its bytes differ from what was put. @throws NOT_FOUND */
  openBlob(key: string, signal?: AbortSignal): Promise<{ readonly stream: Readable }>;
  /** @throws NOT_FOUND, PAYLOAD_TOO_LARGE */
  readBlob(key: string, maxBytes: number): Promise<Buffer>;
  headBlob(key: string): Promise<{ readonly bytes: number } | undefined>;
  listAll(prefix: string): AsyncIterable<{ readonly key: string }>;
}

/** `images/<name>/tags/<tag>.json`: the only part of an image that changes. */
export const imageTagSchema = z.strictObject({
  name: z.string().regex(IMAGE_NAME_PATTERN),
  tag: z.string().regex(IMAGE_TAG_PATTERN),
  digest: z.string().regex(DIGEST_PATTERN),
  /** ISO 8601 of the publication. */
  publishedAt: z.iso.datetime(),
});
export type ImageTag = z.infer<typeof imageTagSchema>;

export const MAX_MANIFEST_BYTES = 64 << 10;

/**
 * Where a file of an image lies in the store: by its own content, so that images share what is equal in them (a new
 * agent does not send a new root file system), and packed by zstd, so that the holes of a file system cost nothing.
 */
export function storedFileKey(file: ImageFile): string {
  return storeKeys.imageFile(`sha256:${file.sha256}`, 'content.zst');
}
