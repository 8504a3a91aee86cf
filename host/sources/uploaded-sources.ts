/** Sources that callers have uploaded, as a host reads them: from its own copy or the store. */
import { join } from 'node:path';
import { storeKeys } from '../../domain/names.ts';
import type { ObjectStore } from '../../store/object-store.ts';
import { createSources, sourcesMissing } from '../../store/sources/sources.ts';
import { BlobCache } from '../builds/blob-cache.ts';
import type { HostLogger } from '../host-logger.ts';

export interface UploadedSourcesOptions {
  readonly stateDir: string;
  readonly store: ObjectStore;
  /** Bytes of tars kept on this host. */
  readonly maxCacheBytes: number;
  readonly logger: HostLogger;
}

export interface UploadedSources {
  /**
   * Puts the checked tar of sources at an unused path; the caller removes it, also after a failure.
   * @param path on the file system of the host's state
   * @throws SERVICE_NOT_FOUND where they are not stored, IMAGE_CORRUPT, STORE_UNAVAILABLE
   */
  fetch(sha256: string, path: string): Promise<void>;
}

/** @returns the sources with their copies in `<stateDir>/sources/`. */
export function createUploadedSources(options: UploadedSourcesOptions): UploadedSources {
  const stored = createSources(options.store);
  const cache = new BlobCache({
    ...options,
    directory: join(options.stateDir, 'sources'),
    keyOf: storeKeys.sourceTar,
    gone: sourcesMissing,
  });
  return {
    fetch: async (sha256, path) => {
      const found = await stored.locate(sha256);
      if (found === undefined) throw sourcesMissing(sha256);
      await cache.link(found, path);
    },
  };
}
