import { createReadStream, createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { constants, createZstdCompress } from 'node:zlib';
import { KilnError } from '../../domain/failures.ts';
import { storeKeys } from '../../domain/names.ts';
import { stageDirectory } from './build/stage-directory.ts';
import { type ImageStore, type ImageTag, imageTagSchema, storedFileKey } from './image-store.ts';
import { imageDirectory, readManifest } from './local-images.ts';
import { canonicalJson, type ImageFile } from './manifest.ts';

export interface PublishImageRequest {
  readonly store: ImageStore;
  /** Folder of images that holds it, `<cache>/images`. */
  readonly imagesDir: string;
  readonly digest: string;
  readonly tag: string;
  /** ISO 8601. */
  readonly publishedAt: string;
  /** Called before each file is sent. */
  readonly onStep?: (step: string) => void;
}

/**
 * Puts an image of this machine into the store and points a tag at it. What is there is not sent again; the manifest
 * goes after the files, and the tag last, so that a reader who finds one of them also finds everything that it names.
 * @throws IMAGE_MISSING where the folder has no such image; STORE_UNAVAILABLE; STORE_CONFLICT where others keep moving the tag
 */
export async function publishImage(request: PublishImageRequest): Promise<ImageTag> {
  const { store, imagesDir, digest } = request;
  const manifest = await readManifest(imagesDir, digest);
  if (manifest === undefined) {
    throw new KilnError('IMAGE_MISSING', `${imagesDir} has no image ${digest}: build it first`, { digest });
  }
  const manifestKey = storeKeys.imageManifest(digest);
  if ((await store.headBlob(manifestKey)) === undefined) {
    for (const file of manifest.files) {
      const key = storedFileKey(file);
      if ((await store.headBlob(key)) !== undefined) continue;
      request.onStep?.(file.name);
      await store.putBlob(key, { path: await packedFile(imagesDir, digest, file) });
    }
    await store.putBlob(manifestKey, { data: Buffer.from(canonicalJson(manifest)) });
  }
  return await moveTag(request, manifest.name);
}

/** Packs a file of an image, once: the result stays beside the images, because every new stack publishes it again. */
async function packedFile(imagesDir: string, digest: string, file: ImageFile): Promise<string> {
  const directory = join(imagesDir, 'packed', file.sha256);
  await stageDirectory(directory, async (temporary) => {
    const packed = createWriteStream(join(temporary, PACKED_FILE), { flush: true });
    const source = createReadStream(join(imageDirectory(imagesDir, digest), file.name), { highWaterMark: 1 << 20 });
    const compress = createZstdCompress({ params: { [constants.ZSTD_c_compressionLevel]: 1 }, chunkSize: 1 << 20 });
    await pipeline(source, compress, packed);
  });
  return join(directory, PACKED_FILE);
}

const PACKED_FILE = 'content.zst';

const TAG_ATTEMPTS = 5;

async function moveTag(request: PublishImageRequest, name: string): Promise<ImageTag> {
  const { store, digest, tag, publishedAt } = request;
  const key = storeKeys.imageTag(name, tag);
  const wanted: ImageTag = imageTagSchema.parse({ name, tag, digest, publishedAt });
  for (let attempt = 1; ; attempt++) {
    const current = await store.readDocument(key, imageTagSchema);
    if (current?.value.digest === digest) return current.value;
    try {
      await store.writeDocument(key, wanted, current === undefined ? 'create' : { etag: current.etag });
      return wanted;
    } catch (error) {
      const lost = error instanceof KilnError && error.code === 'STORE_CONFLICT';
      if (!lost || attempt === TAG_ATTEMPTS) throw error;
    }
  }
}
