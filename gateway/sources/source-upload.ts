/** Receives sources: limits, checks and hashes them while they arrive, and stores them in a file without a name. */
import { createHash, randomUUID } from 'node:crypto';
import { type FileHandle, open, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline, type Readable, Transform } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { boundedBody, drainBody } from '../../concurrency/incoming-body.ts';
import { GZIP_TYPE, type UploadedSource } from '../../contracts/api/source.ts';
import { isFullDisk, isKilnError, KilnError } from '../../domain/failures.ts';
import { readSourceTar } from '../../sources/source-tar.ts';
import type { UploadBody } from '../route-binding.ts';

export interface SourceUploadLimits {
  /** Bytes as sent. */
  readonly maxBytes: number;
  /** Bytes of the tar, not compressed. */
  readonly maxTarBytes: number;
  /** Files, folders and links, including folders that only paths imply. */
  readonly maxEntries: number;
  /** How long the rest of a refused upload is read, ms, so that its sender sees the answer. */
  readonly drainMs: number;
}

export interface ReceivedSource extends UploadedSource {
  /** Path of the tar until `release`. */
  readonly path: string;
  release(): Promise<void>;
}

/**
 * Reads an upload completely. On any failure, even if this process is killed, no file is left.
 * @param directory for the file
 * @throws SPEC_INVALID, PAYLOAD_TOO_LARGE, DISK_FULL
 */
export async function receiveSource(
  { type, bytes: body }: UploadBody,
  directory: string,
  limits: SourceUploadLimits,
): Promise<ReceivedSource> {
  const file = await namelessFile(directory);
  try {
    const incoming = boundedBody(body, limits.maxBytes, { tooLarge: () => tooLarge(limits.maxBytes), brokenOff });
    const hash = createHash('sha256');
    let bytes = 0;
    const kept = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        bytes += chunk.length;
        hash.update(chunk);
        // A chunk is passed on only after its write to the file.
        file.writeFile(chunk).then(() => done(null, chunk), done);
      },
    });
    // The last stream also reports failures of the streams before it.
    const stages = type === GZIP_TYPE ? [incoming, createGunzip(), kept] : [incoming, kept];
    pipeline(stages, () => undefined);
    const { files } = await readSourceTar(kept, { maxBytes: limits.maxTarBytes, maxEntries: limits.maxEntries }, DRAIN);
    const path = `/proc/self/fd/${file.fd}`;
    return { sha256: hash.digest('hex'), bytes, files, path, release: () => file.close() };
  } catch (error) {
    await file.close();
    await drainBody(body, limits);
    throw typed(error);
  }
}

/** Opened and unlinked: the bytes are freed with the last descriptor. */
async function namelessFile(directory: string): Promise<FileHandle> {
  const path = join(directory, `kiln-upload-${randomUUID()}`);
  const file = await open(path, 'wx+', 0o600);
  await unlink(path);
  return file;
}

const DRAIN = {
  directory: async () => undefined,
  link: async () => undefined,
  file: async (_path: string, _isExecutable: boolean, content: Readable) => {
    for await (const _ of content);
  },
};

function typed(error: unknown): unknown {
  if (isKilnError(error)) return error;
  if (isFullDisk(error)) {
    return new KilnError('DISK_FULL', 'The gateway has no room to receive sources; free some on its disk.', {}, error);
  }
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (typeof code === 'string' && code.startsWith('Z_')) {
    return new KilnError('SPEC_INVALID', `The body is no whole gzip (${code}); send it again.`);
  }
  return error;
}

function tooLarge(maxBytes: number): KilnError {
  return new KilnError(
    'PAYLOAD_TOO_LARGE',
    `The sources have more than ${maxBytes} bytes as they are sent; leave out what is not needed.`,
  );
}

function brokenOff(): KilnError {
  return new KilnError('SPEC_INVALID', 'The upload broke off before its end; send it again.');
}
