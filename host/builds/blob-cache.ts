/** Immutable files of the store, named by their sha256, with a bounded copy of each on this host's disk. */

import { randomUUID } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { link, mkdir, open, readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { SingleFlight } from '../../concurrency/single-flight.ts';
import { isKilnError, KilnError } from '../../domain/failures.ts';
import { isErrno } from '../../linux/errno.ts';
import type { ObjectStore } from '../../store/object-store.ts';
import { verifiedStream } from '../../store/verified-stream.ts';
import type { HostLogger } from '../host-logger.ts';

export interface BlobRef {
  /** Hex. */
  readonly sha256: string;
  readonly bytes: number;
}

export interface BlobCacheOptions {
  /** For this cache alone. */
  readonly directory: string;
  readonly store: Pick<ObjectStore, 'openBlob'>;
  /** @returns key in the store. */
  readonly keyOf: (sha256: string) => string;
  /** @returns the error of a file that the store does not have. */
  readonly gone: (sha256: string) => KilnError;
  /** Bytes of copies kept on this host; the ones not used for longest go first. */
  readonly maxCacheBytes: number;
  readonly logger: HostLogger;
}

const SHA256 = /^[0-9a-f]{64}$/;

/** Every method may be called by several callers at a time, and again after a crash. */
export class BlobCache {
  private readonly options: BlobCacheOptions;
  private readonly fetching = new SingleFlight<string>();

  constructor(options: BlobCacheOptions) {
    this.options = options;
  }

  /** Moves a file into the cache as the copy of its digest. @param path complete, on the same file system */
  async keep(path: string, ref: BlobRef): Promise<void> {
    await this.keepAll([{ path, ref }]);
  }

  /** The same for many: what is too much is looked for once. */
  async keepAll(files: readonly { readonly path: string; readonly ref: BlobRef }[]): Promise<void> {
    for (const { path, ref } of files) await rename(path, this.path(ref.sha256));
    await this.evict();
  }

  /** @returns path for a file on its way into the cache; the folder is there. */
  async stagingPath(): Promise<string> {
    await mkdir(this.options.directory, { recursive: true, mode: 0o700 });
    return join(this.options.directory, `new-${randomUUID()}`);
  }

  /** Its bytes, checked while they are read. @throws IMAGE_CORRUPT, STORE_UNAVAILABLE, the error from `gone` */
  async open(ref: BlobRef): Promise<Readable> {
    const path = (await this.local(ref)) ?? (await this.fetch(ref));
    const now = new Date();
    // Only a hint for eviction; the file may just have been evicted.
    await utimes(path, now, now).catch(() => undefined);
    const handle = await open(path, 'r').catch((error: unknown) => {
      if (isErrno(error, 'ENOENT')) return undefined;
      throw error;
    });
    if (handle === undefined) return (await this.openStored(ref)).stream;
    return Readable.from(this.checked(ref, path, handle.createReadStream()), { objectMode: false });
  }

  /**
   * Puts the checked file at an unused path, for a process that opens it by name.
   * @param path on the same file system
   * @throws as `open`; a part of the file may then be there
   */
  async link(ref: BlobRef, path: string): Promise<void> {
    const local = (await this.local(ref)) ?? (await this.fetch(ref));
    const now = new Date();
    await utimes(local, now, now).catch(() => undefined);
    try {
      await link(local, path);
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error;
      // It has just been evicted.
      await pipeline((await this.openStored(ref)).stream, createWriteStream(path, { flags: 'wx', mode: 0o600 }));
      return;
    }
    for await (const _ of this.checked(ref, local, createReadStream(path)));
  }

  /** Removes a damaged copy, so that the next open fetches it again. */
  private async *checked(ref: BlobRef, path: string, from: Readable): AsyncGenerator<Buffer> {
    try {
      yield* verifiedStream(path, from, ref);
    } catch (error) {
      if (isKilnError(error, 'IMAGE_CORRUPT')) {
        this.options.logger.warn({ path }, 'a copy of a stored file is damaged; it is removed');
        await rm(path, { force: true });
      }
      throw error;
    }
  }

  private async local(ref: BlobRef): Promise<string | undefined> {
    const path = this.path(ref.sha256);
    const found = await stat(path).catch(() => undefined);
    return found?.size === ref.bytes ? path : undefined;
  }

  private fetch(ref: BlobRef): Promise<string> {
    return this.fetching.run(ref.sha256, () => this.download(ref));
  }

  private async download(ref: BlobRef): Promise<string> {
    const staged = await this.stagingPath();
    try {
      const blob = await this.openStored(ref);
      await pipeline(blob.stream, createWriteStream(staged, { flags: 'wx', mode: 0o600 }));
      await rename(staged, this.path(ref.sha256));
    } finally {
      await rm(staged, { force: true });
    }
    await this.evict(ref.sha256);
    return this.path(ref.sha256);
  }

  private async openStored(ref: BlobRef): Promise<{ stream: Readable }> {
    const key = this.options.keyOf(ref.sha256);
    try {
      const blob = await this.options.store.openBlob(key);
      // Checked against the digest that the caller knows, not only the one in the store.
      return { stream: verifiedStream(key, blob.stream, ref) };
    } catch (error) {
      if (!isKilnError(error, 'NOT_FOUND')) throw error;
      throw this.options.gone(ref.sha256);
    }
  }

  /** Removes the copies not used for longest; a reader of one keeps it until it closes it. */
  private async evict(keep?: string): Promise<void> {
    const files: { path: string; bytes: number; usedAt: number }[] = [];
    for (const name of await readdir(this.options.directory)) {
      const sha256 = name.replace(/\.tar$/, '');
      if (!SHA256.test(sha256) || sha256 === keep) continue;
      const path = join(this.options.directory, name);
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
    if (!SHA256.test(sha256)) throw new KilnError('INTERNAL', 'A stored file is named by a sha256 in hex.');
    return join(this.options.directory, `${sha256}.tar`);
  }
}
