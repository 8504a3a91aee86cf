import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { z } from 'zod';
import { DIGEST_PATTERN, IMAGE_NAME_PATTERN } from '../../domain/names.ts';

/** Files of an image, besides its manifest. */
export const IMAGE_FILES = ['vmlinux', 'initrd', 'rootfs.ext4', 'workspace.ext4'] as const;
export type ImageFileName = (typeof IMAGE_FILES)[number];

export const MANIFEST_FILE = 'manifest.json';

export const imageFileSchema = z.strictObject({
  name: z.enum(IMAGE_FILES),
  /** Apparent size; most of a file system image are holes. */
  bytes: z.int().min(0),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
});
export type ImageFile = z.infer<typeof imageFileSchema>;

/** `manifest.json`: what an image consists of. Its canonical form is what the image's digest is taken of. */
export const imageManifestSchema = z.strictObject({
  schemaVersion: z.literal(1),
  name: z.string().regex(IMAGE_NAME_PATTERN),
  arch: z.enum(['x86_64']),
  files: z.array(imageFileSchema).length(IMAGE_FILES.length),
  /** Key of the guest agent's sources. */
  agentKey: z.string().min(1).max(64),
  kernelRelease: z.string().min(1).max(128),
  /** Absent in images without the language. */
  nodeVersion: z.string().min(1).max(32).exactOptional(),
  npmVersion: z.string().min(1).max(32).exactOptional(),
  pythonVersion: z.string().min(1).max(64).exactOptional(),
  /** Key of everything the image was made from. */
  recipeKey: z.string().min(1).max(64),
});
export type ImageManifest = z.infer<typeof imageManifestSchema>;

/** @returns JSON with sorted keys and without white space, so that equal content has equal bytes. */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}

/** @returns `sha256:…` of a manifest's canonical form: the identity of the image. */
export function manifestDigest(manifest: ImageManifest): string {
  return `sha256:${createHash('sha256').update(canonicalJson(manifest)).digest('hex')}`;
}

/** @returns whether `text` is an image digest. */
export function isImageDigest(text: string): boolean {
  return DIGEST_PATTERN.test(text);
}

const READ_BYTES = 1 << 20;

/** Reads a whole file. @returns its apparent size in bytes and SHA-256 in hex */
export async function hashFile(path: string, signal?: AbortSignal): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256');
  // One buffer for all of it: a stream takes new memory for each piece, gigabytes for an image.
  const buffer = Buffer.allocUnsafe(READ_BYTES);
  const file = await open(path, 'r');
  try {
    let bytes = 0;
    for (;;) {
      signal?.throwIfAborted();
      const { bytesRead } = await file.read(buffer, 0, READ_BYTES, bytes);
      if (bytesRead === 0) return { bytes, sha256: hash.digest('hex') };
      hash.update(buffer.subarray(0, bytesRead));
      bytes += bytesRead;
    }
  } finally {
    await file.close();
  }
}
