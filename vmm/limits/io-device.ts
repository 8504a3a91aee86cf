import { access, readFile, readlink, stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';

/** @returns major and minor of a device number as `stat` gives it (Linux, 64 bits) */
export function deviceNumbers(dev: bigint): { readonly major: number; readonly minor: number } {
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & ~0xfffn);
  const minor = (dev & 0xffn) | ((dev >> 12n) & ~0xffn);
  return { major: Number(major), minor: Number(minor) };
}

/**
 * The disk whose reads and writes can be limited for what lies in a directory. Limits are set on whole disks, not on
 * partitions.
 * @returns `major:minor`; undefined where the file system has no disk of its own (overlay, tmpfs, btrfs, network)
 */
export async function diskOf(directory: string): Promise<string | undefined> {
  const { major, minor } = deviceNumbers((await stat(directory, { bigint: true })).dev);
  const link = `/sys/dev/block/${major}:${minor}`;
  try {
    const target = await readlink(link);
    const isPartition = await access(`${link}/partition`).then(
      () => true,
      () => false,
    );
    if (!isPartition) return `${major}:${minor}`;
    return (await readFile(`/sys/block/${basename(dirname(target))}/dev`, 'latin1')).trim();
  } catch {
    return undefined;
  }
}
