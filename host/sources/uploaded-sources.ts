/** Sources that callers have uploaded, as a host reads them: from its own copy or the store. */
import { join } from 'node:path';
import { storeKeys } from '../../domain/names.ts';
import type { SourceLimits } from '../../sources/pack-folder.ts';
import { unpackFolder } from '../../sources/unpack-folder.ts';
import type { ObjectStore } from '../../store/object-store.ts';
import { createSources, sourcesMissing } from '../../store/sources/sources.ts';
import { BlobCache } from '../builds/blob-cache.ts';
import type { HostLogger } from '../host-logger.ts';

export interface UploadedSourcesOptions extends SourceLimits {
  readonly stateDir: string;
  readonly store: ObjectStore;
  /** Bytes of tars kept on this host. */
  readonly maxCacheBytes: number;
  readonly logger: HostLogger;
}

export interface UploadedSources {
  /**
   * Unpacks sources into a folder that does not exist yet; the caller removes it, also after a failure.
   * @throws SERVICE_NOT_FOUND where they are not stored, SPEC_INVALID, PAYLOAD_TOO_LARGE, IMAGE_CORRUPT, STORE_UNAVAILABLE
   */
  unpack(sha256: string, folder: string): Promise<void>;
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
    unpack: async (sha256, folder) => {
      const found = await stored.locate(sha256);
      if (found === undefined) throw sourcesMissing(sha256);
      await unpackFolder(await cache.open(found), folder, options);
    },
  };
}
