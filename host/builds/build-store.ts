/** Build outputs: tars by digest in the object store, with a bounded copy on this host's disk. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { constants, copyFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { type BuildIndex, buildIndexSchema } from '../../contracts/store/build-index.ts';
import { isKilnError, KilnError } from '../../domain/failures.ts';
import { storeKeys } from '../../domain/names.ts';
import type { BuildOutput, BuildStore } from '../../ports/builds.ts';
import type { ObjectStore } from '../../store/object-store.ts';
import type { HostLogger } from '../host-logger.ts';
import { BlobCache } from './blob-cache.ts';

export interface BuildStoreOptions {
  readonly stateDir: string;
  readonly store: Pick<ObjectStore, 'readDocument' | 'writeDocument' | 'putBlob' | 'openBlob' | 'headBlob'>;
  /** Bytes of outputs kept on this host; the ones not used for longest go first. */
  readonly maxCacheBytes: number;
  readonly logger: HostLogger;
}

const SHA256 = /^[0-9a-f]{64}$/;

/** @returns the store with its copies in `<stateDir>/builds/`. */
export function createBuildStore(options: BuildStoreOptions): BuildStore {
  return new CachedBuildStore(options);
}

class CachedBuildStore implements BuildStore {
  private readonly options: BuildStoreOptions;
  private readonly cache: BlobCache;

  constructor(options: BuildStoreOptions) {
    this.options = options;
    this.cache = new BlobCache({
      ...options,
      directory: join(options.stateDir, 'builds'),
      keyOf: storeKeys.blob,
      gone: (sha256) =>
        new KilnError('IMAGE_CORRUPT', `The build output ${sha256} is gone from the store; build again.`),
    });
  }

  async find(cacheKey: string): Promise<BuildOutput | undefined> {
    const index = await this.readIndex(cacheKey);
    if (index === undefined) return undefined;
    return (await this.isStored(index.value)) ? outputOf(index.value) : undefined;
  }

  async save(tarPath: string, cacheKey: string | undefined): Promise<BuildOutput> {
    const staged = await this.cache.stagingPath();
    try {
      await copyFile(tarPath, staged, constants.COPYFILE_FICLONE);
      const digest = await digestOfFile(staged);
      if (!(await this.isStored(digest))) {
        await this.options.store.putBlob(
          storeKeys.blob(digest.sha256),
          { path: staged },
          { expectedSha256: digest.sha256 },
        );
      }
      await this.cache.keep(staged, digest);
      return cacheKey === undefined ? digest : await this.index(cacheKey, digest);
    } finally {
      await rm(staged, { force: true });
    }
  }

  open(output: BuildOutput): Promise<Readable> {
    return this.cache.open(output);
  }

  /** The first output under a key stays: either of two equal builds would do, but all must use the same. */
  private async index(cacheKey: string, output: BuildOutput): Promise<BuildOutput> {
    const { store } = this.options;
    const key = storeKeys.build(cacheKey);
    const index: BuildIndex = { schemaVersion: 1, sha256: output.sha256, bytes: output.bytes };
    for (;;) {
      const found = await this.readIndex(cacheKey);
      if (found !== undefined && (await this.isStored(found.value))) return outputOf(found.value);
      try {
        await store.writeDocument(key, index, found === undefined ? 'create' : { etag: found.etag });
        return output;
      } catch (error) {
        // Another build was first: its output counts.
        if (!isKilnError(error, 'STORE_CONFLICT')) throw error;
      }
    }
  }

  private readIndex(cacheKey: string) {
    if (!SHA256.test(cacheKey)) throw new KilnError('INTERNAL', 'A build cache key is a sha256 in hex.');
    return this.options.store.readDocument<BuildIndex>(storeKeys.build(cacheKey), buildIndexSchema);
  }

  private async isStored(output: BuildOutput): Promise<boolean> {
    const found = await this.options.store.headBlob(storeKeys.blob(output.sha256));
    return found?.bytes === output.bytes;
  }
}

function outputOf(index: BuildIndex): BuildOutput {
  return { sha256: index.sha256, bytes: index.bytes };
}

async function digestOfFile(path: string): Promise<BuildOutput> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of createReadStream(path)) {
    const data: Buffer = chunk;
    bytes += data.length;
    hash.update(data);
  }
  return { sha256: hash.digest('hex'), bytes };
}
