import { chmod, mkdir, mkdtemp, open, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { isErrno } from '../../../linux/errno.ts';
import { syncDirectory } from '../../../linux/sync-directory.ts';

/**
 * Makes a directory all at once: `fill` works in a temporary one beside it, which is renamed when it is complete.
 * An existing directory is complete, so `fill` is not called. Safe if the process dies at any point, and
 * if two processes do the same: the second finds the first one's directory.
 * @param mode of the directory; what is built is for every user of the machine
 * @returns whether it was made now
 */
export async function stageDirectory(
  path: string,
  fill: (temporary: string) => Promise<void>,
  mode = 0o755,
): Promise<boolean> {
  if (await isDirectory(path)) return false;
  await mkdir(dirname(path), { recursive: true });
  await sweepAbandoned(dirname(path));
  const temporary = await mkdtemp(join(dirname(path), `${TEMPORARY}${process.pid}-`));
  try {
    await fill(temporary);
    // mkdtemp makes it private.
    await chmod(temporary, mode);
    await syncDirectory(temporary);
    await rename(temporary, path);
    await syncDirectory(dirname(path));
    return true;
  } catch (error) {
    if (isErrno(error, 'ENOTEMPTY', 'EEXIST') && (await isDirectory(path))) return false;
    throw error;
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

const TEMPORARY = '.new-';

/** Removes what a process that died left half made: it can be gigabytes. */
async function sweepAbandoned(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    const pid = /^\.new-(\d+)-/.exec(name)?.[1];
    if (pid === undefined || Number(pid) === process.pid || isAlive(Number(pid))) continue;
    // What sudo made for another user cannot be removed here; it only takes space.
    await rm(join(directory, name), { recursive: true, force: true }).catch(() => undefined);
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return !isErrno(error, 'ESRCH');
  }
}

async function isDirectory(path: string): Promise<boolean> {
  try {
    await (await open(join(path, '.'), 'r')).close();
    return true;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return false;
    throw error;
  }
}
