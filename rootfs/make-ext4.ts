import { writeFile } from 'node:fs/promises';
import { mustRun } from '../linux/run-command.ts';

/** Fixed, so that equal trees make equal file systems; nothing uses them for lookups. */
const FILESYSTEM_ID = '6b696c6e-0000-4000-8000-000000000001';
const EPOCH = { SOURCE_DATE_EPOCH: '1700000000', E2FSPROGS_FAKE_TIME: '1700000000' };

export interface Ext4Options {
  /** Words before the command that make it run as root, where what is in `contents` needs that. */
  readonly asRoot?: readonly string[];
  /** Folder whose tree goes in; absent: an empty file system. */
  readonly contents?: string;
  /** Leaves out what growing it later needs: megabytes in every copy of an empty file system. */
  readonly fixedSize?: true;
}

/** Makes the file `path` an ext4 file system of `mib` MiB; it is sparse. @throws DISK_FULL, UNSUPPORTED */
export async function makeExt4(path: string, mib: number, options: Ext4Options = {}): Promise<void> {
  const { asRoot = [], contents, fixedSize } = options;
  await writeFile(path, '');
  await mustRun([
    ...asRoot,
    ...['env', ...Object.entries(EPOCH).map(([name, value]) => `${name}=${value}`)],
    ...['mke2fs', '-q', '-t', 'ext4', '-F', '-m', '0', '-U', FILESYSTEM_ID],
    ...['-E', `root_owner=0:0,hash_seed=${FILESYSTEM_ID},lazy_itable_init=1,lazy_journal_init=1`],
    ...(fixedSize ? ['-O', '^resize_inode'] : []),
    ...(contents === undefined ? [] : ['-d', contents]),
    path,
    `${mib}M`,
  ]);
}
