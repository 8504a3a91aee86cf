import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { KilnError } from '../../../domain/failures.ts';
import { IMAGE_NAME_PATTERN } from '../../../domain/names.ts';

const relativePath = z
  .string()
  .min(1)
  .refine((path) => !path.startsWith('/') && !path.split('/').includes('..'), 'must stay below the root');

/** `guest/image/<name>/recipe.json`: what an image is made of. */
export const recipeSchema = z.strictObject({
  name: z.string().regex(IMAGE_NAME_PATTERN),
  /** Debian release of the root file system. */
  suite: z.string().regex(/^[a-z]+$/),
  packages: z.array(z.string().regex(/^[a-z0-9][a-z0-9+.-]+$/)),
  /** Globs of files that are never unpacked. */
  exclude: z.array(z.string().startsWith('/')),
  /** Removed at the end. */
  prune: z.array(relativePath),
  /** Empty folders that the agent mounts over. */
  directories: z.array(relativePath),
  /** If present, the image gets Node and this npm; absent = an image without Node. */
  npm: z
    .strictObject({ version: z.string().regex(/^\d+\.\d+\.\d+$/), integrity: z.string().startsWith('sha512-') })
    .exactOptional(),
  /** Package that depends on the newest kernel of its kind. */
  kernelPackage: z.string().regex(/^linux-image-[a-z0-9+.-]+$/),
  /** Wanted kernel modules; what they depend on is added, what the kernel has built in is left out. */
  modules: z.array(z.string().regex(/^[A-Za-z0-9_-]+$/)),
  rootfsMib: z.int().min(256).max(65_536),
  workspaceMib: z.int().min(16).max(65_536),
});

export type Recipe = z.infer<typeof recipeSchema>;

/**
 * Reads a recipe file.
 * @throws CONFIG_INVALID where it cannot be read or breaks the schema
 */
export async function readRecipe(path: string): Promise<Recipe> {
  try {
    return recipeSchema.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch (error) {
    throw new KilnError('CONFIG_INVALID', `image recipe ${path}: ${String(error)}`, { path }, error);
  }
}

/** @returns the first 12 hex digits of a SHA-256 over `parts`: names what was made from exactly these. */
export function keyOf(parts: readonly unknown[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 12);
}
