/** How a file of an image gets onto a host: linked, copied, or unpacked from the store; and checked in any case. */
import { createHash } from 'node:crypto';
import { constants as fsConstants } from 'node:fs';
import { copyFile, link, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createZstdDecompress } from 'node:zlib';
import { isKilnError, KilnError } from '../../domain/failures.ts';
import { isErrno } from '../../linux/errno.ts';
import { mustRun } from '../../linux/run-command.ts';
import { writeAll } from '../../linux/write-all.ts';
import { hasCheckedLook } from './file-stamps.ts';
import { type ImageStore, storedFileKey } from './image-store.ts';
import { imageDirectory, listLocalImages, readManifest } from './local-images.ts';
import { hashFile, type ImageFile } from './manifest.ts';

/**
 * From a build of this machine: a hard link where the file system allows it, else a copy that shares blocks or at least
 * leaves the holes out. @throws IMAGE_CORRUPT
 */
export async function takeLocal(directory: string, file: ImageFile, target: string): Promise<void> {
  const source = join(directory, file.name);
  const checked = await hasCheckedLook(directory, file.name);
  try {
    await link(source, target);
    if (!checked) await checkFile(target, file);
    return;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) throw missingFile(source, file);
    if (!isErrno(error, 'EXDEV', 'EPERM', 'EMLINK')) throw error;
  }
  try {
    await copyFile(source, target, fsConstants.COPYFILE_FICLONE_FORCE);
  } catch {
    await mustRun(['cp', '--reflink=never', '--sparse=auto', '--preserve=mode', '--', source, target]);
  }
  await checkFile(target, file);
}

function missingFile(path: string, file: ImageFile): KilnError {
  return new KilnError('IMAGE_CORRUPT', `${path} is missing: remove its folder and run \`kiln image build\``, {
    file: file.name,
  });
}

/** Images share what is equal in them. @returns whether another image of this host has the file, which is linked then */
export async function linkSame(imagesDir: string, file: ImageFile, target: string): Promise<boolean> {
  for (const digest of await listLocalImages(imagesDir)) {
    const other = await readManifest(imagesDir, digest).catch(() => undefined);
    if (!other?.files.some(({ name, sha256 }) => name === file.name && sha256 === file.sha256)) continue;
    try {
      await link(join(imageDirectory(imagesDir, digest), file.name), target);
      await checkFile(target, file);
      return true;
    } catch {
      await rm(target, { force: true });
    }
  }
  return false;
}

const HOLE_BLOCK = 64 << 10;
const ZEROS = Buffer.alloc(HOLE_BLOCK);

/**
 * Writes a stored file as it was, leaving blocks of zeros out as holes. Never more than the manifest says.
 * @throws IMAGE_CORRUPT, DISK_FULL, STORE_UNAVAILABLE
 */
export async function download(store: ImageStore, digest: string, file: ImageFile, target: string): Promise<void> {
  const stream = await openStored(store, digest, file);
  const decompress = createZstdDecompress({ chunkSize: 1 << 20 });
  try {
    // A pipeline handles the errors of all its parts from the first byte on; with a bare pipe, bad bytes that arrive
    // while the target file is being opened would end the whole process.
    const found = await pipeline(stream, decompress, (source: AsyncIterable<Buffer>) =>
      writeSparse(source, file.bytes, target),
    );
    check(found, file);
  } catch (error) {
    if (error instanceof KilnError) throw error;
    if (isErrno(error, 'ENOSPC')) {
      throw new KilnError(
        'DISK_FULL',
        `no space for the image ${digest} at ${target}`,
        { digest, path: target },
        error,
      );
    }
    throw new KilnError('IMAGE_CORRUPT', `the store's ${file.name} of ${digest} cannot be unpacked`, { digest }, error);
  }
}

async function openStored(store: ImageStore, digest: string, file: ImageFile): Promise<Readable> {
  try {
    return (await store.openBlob(storedFileKey(file))).stream;
  } catch (error) {
    if (!isKilnError(error, 'NOT_FOUND')) throw error;
    throw new KilnError(
      'IMAGE_CORRUPT',
      `the store has no ${file.name} of ${digest}: publish the image again`,
      { digest },
      error,
    );
  }
}

/** @returns size and SHA-256 of what was written, computed while writing: reading it again would double the time. */
async function writeSparse(source: AsyncIterable<Buffer>, bytes: number, target: string): Promise<FileContent> {
  const hash = createHash('sha256');
  const file = await open(target, 'wx', 0o444);
  try {
    // Regardless of the umask: VMMs that run as other users read it.
    await file.chmod(0o444);
    let position = 0;
    for await (const data of source) {
      hash.update(data);
      if (position + data.length > bytes)
        throw new KilnError('IMAGE_CORRUPT', `${target} is longer than its manifest says`);
      for (let at = 0; at < data.length; at += HOLE_BLOCK) {
        const block = data.subarray(at, at + HOLE_BLOCK);
        if (!block.equals(ZEROS.subarray(0, block.length))) await writeAll(file, block, position + at);
      }
      position += data.length;
    }
    await file.truncate(position);
    await file.sync();
    return { bytes: position, sha256: hash.digest('hex') };
  } finally {
    await file.close();
  }
}

type FileContent = Pick<ImageFile, 'bytes' | 'sha256'>;

async function checkFile(path: string, expected: ImageFile): Promise<void> {
  check(await hashFile(path), expected);
}

function check(found: FileContent, { name, bytes, sha256 }: ImageFile): void {
  if (found.bytes === bytes && found.sha256 === sha256) return;
  throw new KilnError('IMAGE_CORRUPT', `${name} is not what the image's manifest says: build and publish it again`, {
    expected: sha256,
    found: found.sha256,
  });
}
