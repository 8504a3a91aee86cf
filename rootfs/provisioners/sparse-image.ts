import { open, stat } from 'node:fs/promises';
import { z } from 'zod';
import { mustRun } from '../../linux/run-command.ts';
import { writeAll } from '../../linux/write-all.ts';

/**
 * A file that is nearly empty, such as a new file system: its size and the few blocks that are not zero. Written from
 * memory it takes a tenth of the time that starting a program to copy it would.
 */
export interface SparseImage {
  readonly size: number;
  readonly pieces: readonly { readonly at: number; readonly data: Buffer }[];
}

const BLOCK = 4096;
/** Files with more than this on disk are not kept in memory. */
const SMALL_BYTES = 2 << 20;

const mapSchema = z.array(z.object({ start: z.int().min(0), length: z.int().min(0), data: z.boolean() }));

/** @returns the image of a file, or undefined where it holds too much to be kept in memory. */
export async function readSparseImage(path: string): Promise<SparseImage | undefined> {
  const { size, blocks } = await stat(path);
  if (blocks * 512 > SMALL_BYTES) return undefined;
  // Node cannot ask a file for its holes. No other process has the file open for writing, so no lock is asked for.
  const map = mapSchema.parse(JSON.parse(await mustRun(['qemu-img', 'map', '-U', '--output=json', '-f', 'raw', path])));
  const pieces: { at: number; data: Buffer }[] = [];
  const file = await open(path, 'r');
  try {
    for (const { start, length } of map.filter(({ data }) => data)) {
      const { buffer } = await file.read(Buffer.alloc(Math.min(length, size - start)), 0, undefined, start);
      pieces.push(...filled(buffer, start));
    }
  } finally {
    await file.close();
  }
  return { size, pieces };
}

/** Parts of a buffer that are not all zeros, each as long as possible. */
function filled(buffer: Buffer, start: number): { at: number; data: Buffer }[] {
  const pieces: { at: number; data: Buffer }[] = [];
  const zeros = Buffer.alloc(BLOCK);
  let from: number | undefined;
  for (let at = 0; at < buffer.length; at += BLOCK) {
    const block = buffer.subarray(at, at + BLOCK);
    const empty = block.equals(zeros.subarray(0, block.length));
    if (empty && from !== undefined) pieces.push({ at: start + from, data: buffer.subarray(from, at) });
    if (empty) from = undefined;
    else from ??= at;
  }
  if (from !== undefined) pieces.push({ at: start + from, data: buffer.subarray(from) });
  return pieces.map(({ at, data }) => ({ at, data: Buffer.from(data) }));
}

/** Makes the file `path`, for its owner alone, with the content of an image. */
export async function writeSparseImage(path: string, { size, pieces }: SparseImage): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    await file.truncate(size);
    for (const { at, data } of pieces) await writeAll(file, data, at);
  } finally {
    await file.close();
  }
}
