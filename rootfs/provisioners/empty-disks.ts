import { randomBytes } from 'node:crypto';
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isFullDisk, KilnError } from '../../domain/failures.ts';
import type { DiskRef } from '../../domain/vm.ts';
import { isErrno } from '../../linux/errno.ts';
import { makeExt4 } from '../make-ext4.ts';

/** How many sizes stay on disk: a caller may ask for thousands. */
const KEPT = 64;

/** What an empty disk is for: part of its name, so that one VM can have a copy of each. */
export type EmptyDiskUse = 'workspace' | 'scratch';

/** Empty file systems of any size, made once each; the disks of VMs are copies of them. */
export interface EmptyDisks {
  /**
   * @param mib size of the disk, the most that a guest can ever store on it
   * @returns a raw ext4 disk that nobody may write
   * @throws DISK_FULL, UNSUPPORTED
   */
  ensure(use: EmptyDiskUse, mib: number): Promise<DiskRef>;
}

/** @returns the empty disks of a host, which lie in `<stateDir>/empty-disks`. */
export function createEmptyDisks(stateDir: string): EmptyDisks {
  const directory = join(stateDir, 'empty-disks');
  return {
    async ensure(use, mib) {
      const path = join(directory, `${use}-${mib}.ext4`);
      if (!(await isThere(path, mib))) await make(directory, path, mib);
      return { path, format: 'raw' };
    },
  };
}

/** False also for a half-written one: the machine may have crashed before both name and bytes were on the disk. */
async function isThere(path: string, mib: number): Promise<boolean> {
  try {
    return (await stat(path)).size === mib * 2 ** 20;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return false;
    throw error;
  }
}

async function make(directory: string, path: string, mib: number): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const temporary = `${path}.new-${randomBytes(6).toString('hex')}`;
  try {
    await makeExt4(temporary, mib, { fixedSize: true });
    const file = await open(temporary, 'r+');
    try {
      await file.chmod(0o444);
      await file.sync();
    } finally {
      await file.close();
    }
    // All disks of one size are equal, so it does not matter which one stays.
    await rename(temporary, path);
    await forgetOldest(directory);
  } catch (error) {
    if (isFullDisk(error))
      throw new KilnError('DISK_FULL', `no space for an empty disk in ${directory}: free some`, { directory }, error);
    throw error;
  } finally {
    await rm(temporary, { force: true });
  }
}

/** The disks of VMs are copies, so nothing depends on one of these for longer than a copy takes. */
async function forgetOldest(directory: string): Promise<void> {
  const names = (await readdir(directory)).filter((name) => name.endsWith('.ext4'));
  if (names.length <= KEPT) return;
  const aged = await Promise.all(
    names.map(async (name) => ({
      name,
      mtimeMs: (await stat(join(directory, name)).catch(() => ({ mtimeMs: 0 }))).mtimeMs,
    })),
  );
  aged.sort((a, b) => b.mtimeMs - a.mtimeMs);
  for (const { name } of aged.slice(KEPT)) await rm(join(directory, name), { force: true });
}
