import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface XfsFolder {
  /** An empty folder on a file system that can share blocks between files. */
  readonly directory: string;
  /** Unmounts and removes it. */
  remove(): Promise<void>;
}

/**
 * A new XFS in a file, mounted in the mount namespace of a small helper process and reached through that process. The
 * helper ends when its standard input closes, which happens however this process ends; then the kernel unmounts.
 * @param mib size; the file is sparse
 * @throws Error that says what is missing: root, or xfsprogs
 */
export async function makeXfsFolder(mib: number): Promise<XfsFolder> {
  if (process.getuid?.() !== 0) throw new Error('only root can mount an XFS: run this as root, as CI does');
  const place = await mkdtemp(join(tmpdir(), 'kiln-xfs-'));
  const file = join(place, 'xfs');
  const mount = join(place, 'mnt');
  await mkdir(mount);
  const created = await open(file, 'wx');
  await created.truncate(mib * 2 ** 20);
  await created.close();
  await run('mkfs.xfs', ['-q', '-m', 'reflink=1', file]);
  const inside = 'mount -o loop "$1" "$2" && echo mounted && exec cat';
  const holder = spawn('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', inside, 'sh', file, mount], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const ended = once(holder, 'exit');
  const remove = async (): Promise<void> => {
    holder.stdin.end();
    await ended;
    await rm(place, { recursive: true, force: true });
  };
  const mounted = await Promise.race([once(holder.stdout, 'data').then(() => true), ended.then(() => false)]);
  if (mounted) return { directory: join('/proc', `${holder.pid}`, 'root', mount), remove };
  await remove();
  throw new Error('an XFS could not be mounted, see above');
}
