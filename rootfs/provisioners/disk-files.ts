import { randomBytes } from 'node:crypto';
import { access, link, mkdir, rm } from 'node:fs/promises';
import { basename, dirname, extname, join } from 'node:path';
import { isFullDisk, KilnError } from '../../domain/failures.ts';
import type { DiskRef } from '../../domain/vm.ts';
import { directoryEntries } from '../../linux/directory-entries.ts';
import { isErrno } from '../../linux/errno.ts';

/**
 * Names and makes the disks of one folder, for provisioners. A disk appears whole or not at all; a disk that is there
 * is the requested one, because its name says VM and base. Nothing is flushed: a VM does not outlive its
 * machine, so its disk need not either.
 */

/** @returns where the disk of a VM over a base lies, e.g. `<vmId>.rootfs.qcow2`. */
export function diskPath(directory: string, vmId: string, basePath: string, extension: string): string {
  checkVmId(vmId);
  return join(directory, `${vmId}.${basename(basePath, extname(basePath))}.${extension}`);
}

/** Makes `path` by `fill` (which is given a temporary path) unless it is there. @throws DISK_FULL, IMAGE_MISSING */
export async function makeDisk(
  path: string,
  basePath: string,
  fill: (temporary: string) => Promise<void>,
): Promise<void> {
  if (await exists(path)) return;
  const temporary = `${path}.new-${randomBytes(6).toString('hex')}`;
  try {
    await mkdir(join(path, '..'), { recursive: true });
    await fill(temporary);
    // Not a rename: an old call that is still running must not replace a disk that a VM has open by now.
    await link(temporary, path);
  } catch (error) {
    if (isErrno(error, 'EEXIST') && (await exists(path))) return;
    throw await diskError(error, path, basePath);
  } finally {
    await rm(temporary, { force: true });
  }
}

/**
 * Removes every disk of a VM and what an interrupted call left of one. An unknown VM is no error.
 * @param request `disks`: those that its record names; a file outside of its folder is a base or another VM's disk
 */
export async function removeDisks(request: {
  directory: string;
  vmId: string;
  disks: readonly DiskRef[];
}): Promise<void> {
  const { directory, vmId } = request;
  checkVmId(vmId);
  const recorded = request.disks.filter(({ path }) => dirname(path) === directory);
  for (const { path } of recorded) await rm(path, { force: true });
  const ours = (await directoryEntries(directory)).filter(
    (name) => name.startsWith(`${vmId}.`) && /\.(qcow2|raw)(\.new-[0-9a-f]+(-empty)?)?$/.test(name),
  );
  for (const name of ours) await rm(join(directory, name), { force: true });
}

/** A dot ends the VM id in a file name, so that one VM's disks are never mistaken for another's. */
function checkVmId(vmId: string): void {
  if (!/^[a-z0-9-]{1,24}$/.test(vmId)) throw new KilnError('INTERNAL', `not a VM id: ${JSON.stringify(vmId)}`);
}

async function diskError(error: unknown, path: string, basePath: string): Promise<unknown> {
  if (isFullDisk(error)) {
    return new KilnError('DISK_FULL', `no space for the disk ${path}: free some on its file system`, { path }, error);
  }
  if (!(await exists(basePath))) {
    return new KilnError(
      'IMAGE_MISSING',
      `the base image ${basePath} is gone: fetch the image again`,
      { basePath },
      error,
    );
  }
  return error;
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return false;
    throw error;
  }
}
