/** Packs on this host: those of saves in the spool, and copies of those that the store has. */
import { createReadStream } from 'node:fs';
import { type FileHandle, link, mkdir, open, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { FramePlace, PackInfo } from '../../contracts/store/save-documents.ts';
import { isKilnError, KilnError } from '../../domain/failures.ts';
import { type SessionName, storeKeys } from '../../domain/names.ts';
import { saveOfPack } from '../../domain/session/save-garbage.ts';
import { isErrno } from '../../linux/errno.ts';
import type { ObjectStore } from '../../store/object-store.ts';
import { saveCorrupt } from '../../store/sessions/saves/packs.ts';
import { verifiedStream } from '../../store/verified-stream.ts';
import { BlobCache } from '../builds/blob-cache.ts';
import type { HostLogger } from '../host-logger.ts';
import type { Spool } from './spool.ts';

export interface PackCacheOptions {
  /** For copies of packs alone; on the file system of the spool. */
  readonly directory: string;
  /** Bytes of packs that are kept; those not used for longest go first. */
  readonly maxBytes: number;
  readonly store: Pick<ObjectStore, 'openBlob'>;
  readonly logger: HostLogger;
}

/** Copies of the packs of one save that the store has, or gets. */
export interface PackCopies {
  /** Puts a pack, checked, at an unused path. @throws SESSION_CORRUPT, STORE_UNAVAILABLE */
  link(pack: PackInfo, path: string): Promise<void>;
  /** Moves packs that the store has into the cache, each from its path. */
  keep(packs: readonly (readonly [PackInfo, string])[]): Promise<void>;
  /** Bytes that were read from the store. */
  readonly fetchedBytes: number;
}

export function packCopies(options: PackCacheOptions, session: SessionName, packs: readonly PackInfo[]): PackCopies {
  const names = new Map(packs.map(({ sha256, name }) => [sha256, name]));
  let fetchedBytes = 0;
  const cache = new BlobCache({
    directory: options.directory,
    maxCacheBytes: options.maxBytes,
    logger: options.logger,
    keyOf: (sha256) => storeKeys.savePack(session, names.get(sha256) ?? ''),
    gone: (sha256) => saveCorrupt(`pack ${names.get(sha256)} is gone from the store`),
    store: {
      async openBlob(key, signal) {
        const blob = await options.store.openBlob(key, signal);
        fetchedBytes += blob.bytes;
        return blob;
      },
    },
  });
  return {
    get fetchedBytes() {
      return fetchedBytes;
    },
    async link(pack, path) {
      try {
        await cache.link(pack, path);
      } catch (error) {
        if (!isKilnError(error, 'IMAGE_CORRUPT')) throw error;
        // The copy was removed: now the store's own bytes are looked at.
        await rm(path, { force: true });
        await cache.link(pack, path).catch((again: unknown) => {
          if (!isKilnError(again, 'IMAGE_CORRUPT')) throw again;
          throw saveCorrupt(`pack ${pack.name} has other bytes in the store`, again);
        });
      }
    },
    async keep(packs) {
      await mkdir(options.directory, { recursive: true, mode: 0o700 });
      await cache.keepAll(packs.map(([ref, path]) => ({ ref, path })));
    },
  };
}

/** @returns where the spool has a pack, if it has it */
export function spooledPackPath(spool: Spool, name: string): string {
  return join(spool.directory, saveOfPack(name), name);
}

/** @returns whether a file is this pack, byte for byte */
export async function isIntactPack(path: string, pack: PackInfo): Promise<boolean> {
  try {
    if ((await stat(path)).size !== pack.bytes) return false;
    for await (const _ of verifiedStream(path, createReadStream(path), pack));
    return true;
  } catch (error) {
    if (isKilnError(error, 'IMAGE_CORRUPT') || isErrno(error, 'ENOENT')) return false;
    throw error;
  }
}

/**
 * Puts a pack at an unused path: from the spool, or else a copy of what the store has.
 * @throws SESSION_CORRUPT, STORE_UNAVAILABLE
 */
export async function linkPack(
  { spool, copies }: { readonly spool: Spool; readonly copies: PackCopies },
  pack: PackInfo,
  path: string,
): Promise<void> {
  const spooled = spooledPackPath(spool, pack.name);
  const isThere = await link(spooled, path).then(
    () => true,
    (error: unknown) => {
      if (isErrno(error, 'ENOENT')) return false;
      throw error;
    },
  );
  if (isThere && (await isIntactPack(path, pack))) return;
  await rm(path, { force: true });
  await copies.link(pack, path);
}

/** Packs that are open at a time. */
const MAX_OPEN = 16;

/** Reads frames from the packs in a folder. One call at a time. */
export class FrameReader {
  private readonly directory: string;
  private readonly lengths: ReadonlyMap<string, number>;
  /** In the order of their last use. */
  private readonly open = new Map<string, FileHandle>();
  private isClosed = false;

  constructor(directory: string, packs: readonly PackInfo[]) {
    this.directory = directory;
    this.lengths = new Map(packs.map(({ name, bytes }) => [name, bytes]));
  }

  /** @throws SESSION_CORRUPT where there are no such bytes */
  async read({ pack, offset, length }: FramePlace): Promise<Buffer> {
    if (offset + length > (this.lengths.get(pack) ?? 0)) throw saveCorrupt(`a chunk lies outside of pack ${pack}`);
    const file = await this.file(pack);
    const { bytesRead, buffer } = await file.read(Buffer.alloc(length), 0, length, offset);
    if (bytesRead !== length) throw saveCorrupt(`pack ${pack} breaks off`);
    return buffer;
  }

  async close(): Promise<void> {
    this.isClosed = true;
    for (const file of this.open.values()) await file.close();
    this.open.clear();
  }

  private async file(pack: string): Promise<FileHandle> {
    const known = this.open.get(pack);
    const file = known ?? (await open(join(this.directory, pack)));
    if (this.isClosed) {
      await file.close();
      throw new KilnError('CANCELLED', 'Nobody reads the packs of this save any more.');
    }
    this.open.delete(pack);
    this.open.set(pack, file);
    const [oldest] = this.open;
    if (this.open.size > MAX_OPEN && oldest !== undefined) {
      this.open.delete(oldest[0]);
      await oldest[1].close();
    }
    return file;
  }
}
