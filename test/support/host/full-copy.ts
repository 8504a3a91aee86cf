import { execFile } from 'node:child_process';
import { open } from 'node:fs/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Copies a file byte by byte, like a copy between two file systems: no shared blocks, no holes. */
export async function fullCopy(from: string, to: string): Promise<void> {
  await run('cp', ['--reflink=never', '--sparse=never', from, to]);
}

/** Copies a file without its holes, for disks whose creation is not measured. */
export async function sparseCopy(from: string, to: string): Promise<void> {
  await run('cp', ['--sparse=always', from, to]);
}

/**
 * Makes an image of `bytes` that begins with `base` and has all blocks allocated, like the base image of a host that
 * copies it for each VM.
 */
export async function makeFullImage(base: string, path: string, bytes: number): Promise<void> {
  await sparseCopy(base, path);
  const file = await open(path, 'r+');
  try {
    const { size } = await file.stat();
    if (size < bytes) await file.truncate(bytes);
  } finally {
    await file.close();
  }
  const full = `${path}.full`;
  await fullCopy(path, full);
  await run('mv', [full, path]);
}
