import { KilnError } from '../../domain/failures.ts';
import { DIGEST_PATTERN, IMAGE_NAME_PATTERN, IMAGE_TAG_PATTERN, storeKeys } from '../../domain/names.ts';
import type { ImageCatalog } from '../../ports/images.ts';
import { type ImageStore, type ImageTag, imageTagSchema, MAX_MANIFEST_BYTES } from './image-store.ts';
import { parseManifest } from './local-images.ts';
import { type ImageManifest, isImageDigest } from './manifest.ts';

export const DEFAULT_TAG = 'latest';

/** `name`, `name:tag` or `name@sha256:…`, taken apart. */
export type ImageReference =
  | { readonly name: string; readonly tag: string }
  | { readonly name: string; readonly digest: string };

/** @throws SPEC_INVALID where the text is no image reference */
export function parseImageReference(text: string): ImageReference {
  const at = text.indexOf('@');
  const colon = text.indexOf(':');
  const end = at >= 0 ? at : colon >= 0 ? colon : text.length;
  const name = text.slice(0, end);
  const rest = text.slice(end + 1);
  if (IMAGE_NAME_PATTERN.test(name)) {
    if (end === text.length) return { name, tag: DEFAULT_TAG };
    if (at >= 0 && DIGEST_PATTERN.test(rest)) return { name, digest: rest };
    if (at < 0 && IMAGE_TAG_PATTERN.test(rest)) return { name, tag: rest };
  }
  const shown = text.slice(0, 100);
  throw new KilnError('SPEC_INVALID', `"${shown}" is no image: write name, name:tag or name@sha256:…`, {
    image: shown,
  });
}

/** @returns a catalog over the store's tag documents. */
export function createImageCatalog(store: ImageStore): ImageCatalog {
  return {
    async resolve(text) {
      const reference = parseImageReference(text);
      if ('digest' in reference) {
        await readPublishedManifest(store, reference.digest);
        return { name: reference.name, digest: reference.digest };
      }
      const { name, tag } = reference;
      const found = await store.readDocument(storeKeys.imageTag(name, tag), imageTagSchema);
      if (found === undefined) {
        throw new KilnError(
          'IMAGE_MISSING',
          `there is no image ${name}:${tag}: publish one with \`kiln image build ${name}\``,
          { name, tag },
        );
      }
      return { name, digest: found.value.digest };
    },
  };
}

/** @returns every published tag, by name and tag. */
export async function listImages(store: ImageStore): Promise<ImageTag[]> {
  const tags: ImageTag[] = [];
  for await (const { key } of store.listAll(storeKeys.images)) {
    const found = await store.readDocument(key, imageTagSchema);
    if (found !== undefined) tags.push(found.value);
  }
  return tags;
}

/** @returns the image a reference names and its manifest. @throws SPEC_INVALID, IMAGE_MISSING, IMAGE_CORRUPT */
export async function inspectImage(
  store: ImageStore,
  reference: string,
): Promise<{ name: string; digest: string; manifest: ImageManifest }> {
  const { name, digest } = await createImageCatalog(store).resolve(reference);
  return { name, digest, manifest: await readPublishedManifest(store, digest) };
}

/** @throws IMAGE_MISSING where the store has no such image, IMAGE_CORRUPT where its manifest is another image's */
export async function readPublishedManifest(store: ImageStore, digest: string): Promise<ImageManifest> {
  if (!isImageDigest(digest)) throw new KilnError('SPEC_INVALID', `not an image digest: ${digest.slice(0, 100)}`);
  const key = storeKeys.imageManifest(digest);
  try {
    return parseManifest(
      (await store.readBlob(key, MAX_MANIFEST_BYTES)).toString('utf8'),
      digest,
      `the store at ${key}`,
    );
  } catch (error) {
    if (!(error instanceof KilnError && error.code === 'NOT_FOUND')) throw error;
    throw new KilnError('IMAGE_MISSING', `the store has no image ${digest}: publish it with \`kiln image build\``, {
      digest,
    });
  }
}
