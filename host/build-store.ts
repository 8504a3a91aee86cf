/** Build outputs: tars by digest in the object store, with a bounded copy on this host's disk. */
import { createHash, randomUUID } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { constants, copyFile, mkdir, open, readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { BuildOutput, BuildStore } from '../activities/ports.ts';
import { type BuildIndex, buildIndexSchema } from '../contracts/build-index.ts';
import { isKilnError, KilnError } from '../domain/failures.ts';
import { storeKeys } from '../domain/names.ts';
import type { ObjectStore } from '../store/object-store.ts';
import { verifiedStream } from '../store/verified-stream.ts';
import { hasCode } from '../vmm/process-identity.ts';
import type { HostLogger } from './host-logger.ts';

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
  private readonly directory: string;
  private readonly fetching = new Map<string, Promise<string>>();

  constructor(options: BuildStoreOptions) {
    this.options = options;
    this.directory = join(options.stateDir, 'builds');
  }

  async find(cacheKey: string): Promise<BuildOutput | undefined> {
    const index = await this.readIndex(cacheKey);
    if (index === undefined) return undefined;
    return (await this.isStored(index.value)) ? outputOf(index.value) : undefined;
  }

  async save(tarPath: string, cacheKey: string | undefined): Promise<BuildOutput> {
    await mkdir(this.directory, { recursive: true, mode: 0o700 });
    const staged = join(this.directory, `new-${randomUUID()}`);
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
      await rename(staged, this.path(digest.sha256));
      await this.evict();
      return cacheKey === undefined ? digest : await this.index(cacheKey, digest);
    } finally {
      await rm(staged, { force: true });
    }
  }

  async open(output: BuildOutput): Promise<Readable> {
    const path = (await this.local(output)) ?? (await this.fetch(output));
    const now = new Date();
    // Only a hint for eviction; the file may just have been evicted.
    await utimes(path, now, now).catch(() => undefined);
    const handle = await open(path, 'r').catch((error: unknown) => {
      if (hasCode(error, 'ENOENT')) return undefined;
      throw error;
    });
    if (handle === undefined) return (await this.openStored(output)).stream;
    return Readable.from(this.checked(output, path, handle.createReadStream()), { objectMode: false });
  }

  /** A damaged copy is removed, so that the next open fetches it anew. */
  private async *checked(output: BuildOutput, path: string, from: Readable): AsyncGenerator<Buffer> {
    try {
      yield* verifiedStream(path, from, output);
    } catch (error) {
      if (isKilnError(error, 'IMAGE_CORRUPT')) {
        this.options.logger.warn({ path }, 'a copy of a build output is damaged; it is removed');
        await rm(path, { force: true });
      }
      throw error;
    }
  }

  /** The first output under a key stays: of two equal builds each may be used, but all must use the same. */
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
        // Somebody else was first: what he wrote is what counts.
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

  private async local(output: BuildOutput): Promise<string | undefined> {
    const path = this.path(output.sha256);
    const found = await stat(path).catch(() => undefined);
    return found?.size === output.bytes ? path : undefined;
  }

  private fetch(output: BuildOutput): Promise<string> {
    const running = this.fetching.get(output.sha256);
    if (running !== undefined) return running;
    const fetch = this.download(output).finally(() => this.fetching.delete(output.sha256));
    this.fetching.set(output.sha256, fetch);
    return fetch;
  }

  private async download(output: BuildOutput): Promise<string> {
    await mkdir(this.directory, { recursive: true, mode: 0o700 });
    const staged = join(this.directory, `new-${randomUUID()}`);
    try {
      const blob = await this.openStored(output);
      await pipeline(blob.stream, createWriteStream(staged, { flags: 'wx', mode: 0o600 }));
      await rename(staged, this.path(output.sha256));
    } finally {
      await rm(staged, { force: true });
    }
    await this.evict(output.sha256);
    return this.path(output.sha256);
  }

  private async openStored(output: BuildOutput): Promise<{ stream: Readable }> {
    const key = storeKeys.blob(output.sha256);
    try {
      const blob = await this.options.store.openBlob(key);
      // Against the digest that the caller knows, not only the one that the store remembers.
      return { stream: verifiedStream(key, blob.stream, output) };
    } catch (error) {
      if (!isKilnError(error, 'NOT_FOUND')) throw error;
      throw new KilnError('IMAGE_CORRUPT', `The build output ${output.sha256} is gone from the store; build again.`);
    }
  }

  /** Removes the copies not used for longest; readers of one keep it until they close it. */
  private async evict(keep?: string): Promise<void> {
    const files: { path: string; bytes: number; usedAt: number }[] = [];
    for (const name of await readdir(this.directory)) {
      const sha256 = name.replace(/\.tar$/, '');
      if (!SHA256.test(sha256) || sha256 === keep) continue;
      const path = join(this.directory, name);
      const found = await stat(path).catch(() => undefined);
      if (found !== undefined) files.push({ path, bytes: found.size, usedAt: found.mtimeMs });
    }
    let bytes = files.reduce((sum, file) => sum + file.bytes, 0);
    for (const file of files.sort((a, b) => a.usedAt - b.usedAt)) {
      if (bytes <= this.options.maxCacheBytes) return;
      await rm(file.path, { force: true });
      bytes -= file.bytes;
    }
  }

  private path(sha256: string): string {
    if (!SHA256.test(sha256)) throw new KilnError('INTERNAL', 'A build output is named by a sha256 in hex.');
    return join(this.directory, `${sha256}.tar`);
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
