/** Packs: a line that says what it is, then zstd frames, one for each chunk of a file or piece of a manifest. */
import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { constants, zstdCompress, zstdCompressSync, zstdDecompress, zstdDecompressSync } from 'node:zlib';
import type { FramePlace } from '../../../contracts/store/save-documents.ts';
import { isKilnError, KilnError } from '../../../domain/failures.ts';
import type { Chunk } from '../../../domain/session/workspace.ts';

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);
const LEVEL = { params: { [constants.ZSTD_c_compressionLevel]: 3 } };

export const PACK_MAGIC = Buffer.from('kiln pack 1\n');

/** A chunk that is in a pack; a hole has no place. */
export interface PackedChunk extends Chunk {
  readonly place?: FramePlace;
}

/** @returns the id of a chunk: no two sessions have the same for the same bytes, since their salts differ */
export function chunkId(salt: Buffer, data: Buffer): string {
  return createHash('sha256').update(salt).update(data).digest('hex');
}

/** So many bytes take less time than it takes another thread to begin. */
const AT_ONCE = 64 * 1024;

/** @returns the zstd frame of a chunk */
export async function frameOf(data: Buffer): Promise<Buffer> {
  return data.length <= AT_ONCE ? zstdCompressSync(data, LEVEL) : await compress(data, LEVEL);
}

/** @returns the bytes of a chunk. @throws SESSION_CORRUPT where they are not those that its id names */
export async function chunkOf(frame: Buffer, chunk: Chunk, salt: Buffer): Promise<Buffer> {
  const data = await unpacked(frame, chunk.bytes).catch((error: unknown) => {
    throw saveCorrupt(`chunk ${chunk.id} cannot be unpacked`, error);
  });
  if (data.length !== chunk.bytes || chunkId(salt, data) !== chunk.id) {
    throw saveCorrupt(`chunk ${chunk.id} has other bytes`);
  }
  return data;
}

async function unpacked(frame: Buffer, maxOutputLength: number): Promise<Buffer> {
  const isSmall = maxOutputLength <= AT_ONCE;
  return isSmall ? zstdDecompressSync(frame, { maxOutputLength }) : await decompress(frame, { maxOutputLength });
}

/** @param what is wrong, after "…: " */
export function saveCorrupt(what: string, cause?: unknown): KilnError {
  return new KilnError('SESSION_CORRUPT', `The saved workspace is damaged: ${what}.`, {}, cause);
}

/** For a `catch`: what is damaged counts as absent. */
export function undefinedIfCorrupt(error: unknown): undefined {
  if (!isKilnError(error, 'SESSION_CORRUPT')) throw error;
}
