import { readdir, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { abortable } from '../../concurrency/deadline.ts';
import { SingleFlight } from '../../concurrency/single-flight.ts';
import { isKilnError, KilnError, messageOf } from '../../domain/failures.ts';
import { type ImageCollectionLimits, imagesToRemove } from '../../domain/upkeep/image-collection.ts';
import type { CachedImage } from '../../domain/vm.ts';
import type { ImageCache } from '../../ports/images.ts';
import { stageDirectory } from './build/stage-directory.ts';
import { changedFiles, noteFingerprint, noteFingerprints } from './file-fingerprints.ts';
import { readPublishedManifest } from './image-catalog.ts';
import { download, linkSame, takeLocal } from './image-files.ts';
import type { ImageStore } from './image-store.ts';
import { cachedImage, imageDirectory, listLocalImages, readManifest } from './local-images.ts';
import { canonicalJson, type ImageFile, MANIFEST_FILE } from './manifest.ts';

export interface ImageCacheOptions {
  /** `<host state>/images`: where this host keeps its images. */
  readonly imagesDir: string;
  /** `<cache>/images` of the machine: an image that was built here is linked or copied from there. */
  readonly localBuildsDir?: string;
  readonly store: ImageStore;
  /** Monotonic milliseconds; default: this process's clock. */
  readonly now?: () => number;
}

export interface HostImages extends ImageCache {
  /**
   * Removes images that nobody needs and that can be fetched again. An image counts as requested when it is first seen.
   * @param inUse digests of images that something on this host is built on
   * @returns digests of what was removed
   */
  collect(inUse: ReadonlySet<string>, limits: ImageCollectionLimits): Promise<string[]>;
}

/** @returns the image cache of one host. Each image is fetched once, however many ask for it at once. */
export function createImageCache(options: ImageCacheOptions): HostImages {
  const fetching = new SingleFlight<CachedImage>();
  const removing = new SingleFlight<void>();
  const askedAt = new Map<string, number>();
  const now = options.now ?? (() => performance.now());
  const idleMs = (digest: string) => now() - (askedAt.get(digest) ?? now());
  /** An image that is being removed is not handed out, and an image that is being handed out is not removed. */
  const remove = async (digest: string, limits: ImageCollectionLimits): Promise<boolean> => {
    if (!(await canBeHadAgain(options, digest))) return false;
    // No await between this check and the mark, so that the image is not handed out in between.
    if (fetching.underWay(digest) !== undefined || idleMs(digest) < limits.idleMs) return false;
    await removing.run(digest, () => removeDirectory(imageDirectory(options.imagesDir, digest)));
    askedAt.delete(digest);
    return true;
  };
  return {
    async ensure(digest, signal) {
      signal?.throwIfAborted();
      askedAt.set(digest, now());
      // All waiting callers share it, so no single caller's signal may end it.
      const work = fetching.run(digest, async () => {
        await removing.underWay(digest)?.catch(() => undefined);
        return ensureImage(options, digest);
      });
      return await abortable(work, signal);
    },
    async collect(inUse, limits) {
      await removeNameless(options.imagesDir);
      const digests = await listLocalImages(options.imagesDir);
      for (const digest of digests) if (!askedAt.has(digest)) askedAt.set(digest, now());
      const images = digests.map((digest) => ({ digest, idleMs: idleMs(digest), inUse: inUse.has(digest) }));
      const removed: string[] = [];
      for (const digest of imagesToRemove(images, limits)) if (await remove(digest, limits)) removed.push(digest);
      return removed;
    },
  };
}

async function canBeHadAgain({ localBuildsDir, store }: ImageCacheOptions, digest: string): Promise<boolean> {
  try {
    if (localBuildsDir !== undefined && (await readManifest(localBuildsDir, digest)) !== undefined) return true;
    await readPublishedManifest(store, digest);
    return true;
  } catch (error) {
    // The store is unreachable or has lost the image: the local copy may be the only one.
    if (isKilnError(error)) return false;
    throw error;
  }
}

const NAMELESS = '.removed-';

/** A half-removed image must never pass for a whole one: it is renamed first. */
async function removeDirectory(directory: string): Promise<void> {
  const nameless = join(dirname(directory), `${NAMELESS}${basename(directory)}`);
  await rename(directory, nameless);
  await rm(nameless, { recursive: true, force: true });
}

/** Leftovers of a process that died while it was removing an image. */
async function removeNameless(imagesDir: string): Promise<void> {
  const names = await readdir(imagesDir).catch(() => []);
  const left = names.filter((name) => name.startsWith(NAMELESS));
  for (const name of left) await rm(join(imagesDir, name), { recursive: true, force: true });
}

async function ensureImage(options: ImageCacheOptions, digest: string): Promise<CachedImage> {
  const { imagesDir } = options;
  const present = await readManifest(imagesDir, digest);
  if (present !== undefined) {
    const directory = imageDirectory(imagesDir, digest);
    for (const file of await changedFiles(directory, present)) await mend(options, digest, directory, file);
    return cachedImage(imagesDir, digest, present);
  }
  const local = options.localBuildsDir === undefined ? undefined : await readManifest(options.localBuildsDir, digest);
  const manifest = local ?? (await readPublishedManifest(options.store, digest));
  const fill = async (directory: string) => {
    for (const file of manifest.files) {
      const target = join(directory, file.name);
      if (local === undefined || options.localBuildsDir === undefined) {
        if (await linkSame(imagesDir, file, target)) continue;
        await download(options.store, digest, file, target);
      } else {
        await takeLocal(imageDirectory(options.localBuildsDir, digest), file, target);
      }
    }
    await writeFile(join(directory, MANIFEST_FILE), canonicalJson(manifest), { mode: 0o444, flush: true });
  };
  await stageDirectory(imageDirectory(imagesDir, digest), fill, 0o700);
  await noteFingerprints(imageDirectory(imagesDir, digest), manifest);
  return cachedImage(imagesDir, digest, manifest);
}

/**
 * Repairs a damaged file: from this machine's own build, else from the store. VMs that have the bad
 * one open continue with it; VMs that start later use the good one.
 * @throws IMAGE_CORRUPT where neither has it
 */
async function mend(options: ImageCacheOptions, digest: string, directory: string, file: ImageFile): Promise<void> {
  const target = join(directory, file.name);
  const fresh = `${target}.new`;
  const local = options.localBuildsDir === undefined ? undefined : imageDirectory(options.localBuildsDir, digest);
  const sources = [
    ...(local === undefined ? [] : [() => takeLocal(local, file, fresh)]),
    () => download(options.store, digest, file, fresh),
  ];
  const failures: string[] = [];
  for (const fetchFresh of sources) {
    await rm(fresh, { force: true });
    try {
      await fetchFresh();
      await rename(fresh, target);
      return await noteFingerprint(directory, file.name);
    } catch (error) {
      if (isKilnError(error, 'STORE_UNAVAILABLE')) throw error;
      failures.push(messageOf(error));
    }
  }
  await rm(fresh, { force: true });
  throw new KilnError(
    'IMAGE_CORRUPT',
    `${target} is not what its image's manifest says, and cannot be fetched anew: ${failures.join('; ')}`,
    {
      path: target,
    },
  );
}
