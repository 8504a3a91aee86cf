/** Files of a stack's state are for its owner alone: files 0600, folders 0700. */
import { constants, type Dirent } from 'node:fs';
import { lstat, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { isErrno } from './errno.ts';

/** From now on, files made by this process and its children are for its user alone, unless a mode is set explicitly. */
export function keepFilesPrivate(): void {
  process.umask(0o077);
}

export interface ClosingOptions {
  /** Most files and folders that are checked: a start must not wait for a store with millions of them. */
  readonly maxEntries: number;
  /** Folders, relative to the root, whose files keep their modes: others open these. The folders themselves are closed. */
  readonly keepFilesIn?: readonly string[];
}

export interface Closed {
  /** How many were open to others and are now closed. */
  readonly changed: number;
  /** Whether everything was checked; if not, the unchecked rest lies in folders that are closed. */
  readonly whole: boolean;
}

const OTHERS = 0o077;
const OWNER = 0o700;

/**
 * Takes the rights of group and others from a file, or a folder and all that lies in it, the upper folders first. Follows
 * no link, and leaves alone what belongs to another user. Doing it again changes nothing. What is missing is no error.
 */
export async function closeToOthers(root: string, { maxEntries, keepFilesIn = [] }: ClosingOptions): Promise<Closed> {
  const keep = new Set(keepFilesIn.map((name) => join(root, name)));
  const folders = [{ path: root, keepsFiles: false }];
  let looked = 0;
  let changed = 0;
  for (let next = folders.shift(); next !== undefined; next = folders.shift()) {
    const { path } = next;
    const keepsFiles = next.keepsFiles || keep.has(path);
    const outcome = await closeAlone(path);
    if (outcome === 'not ours') continue;
    if (outcome === 'closed') changed++;
    for (const entry of await entriesOf(path)) {
      if (++looked > maxEntries) return { changed, whole: false };
      const child = join(path, entry.name);
      if (entry.isDirectory()) folders.push({ path: child, keepsFiles });
      else if (entry.isFile() && !keepsFiles && (await closeFile(child)) === 'closed') changed++;
    }
  }
  return { changed, whole: true };
}

export type Outcome = 'closed' | 'was closed' | 'not ours';

/** Opens only what has to be changed: opening costs more than stat, and there may be many files. */
async function closeFile(path: string): Promise<Outcome> {
  const found = await lstat(path).catch(ignoreGone);
  if (found === undefined || !found.isFile() || found.uid !== process.getuid?.()) return 'not ours';
  return (found.mode & OTHERS) === 0 ? 'was closed' : closeAlone(path);
}

/**
 * The same for one file or folder, without its content. By descriptor, so that something put in its place meanwhile, a
 * link say, is not changed instead.
 */
export async function closeAlone(path: string): Promise<Outcome> {
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;
  const handle = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK).catch(ignoreGone);
  if (handle === undefined) return 'not ours';
  try {
    const { uid, mode } = await handle.stat();
    if (uid !== process.getuid?.()) return 'not ours';
    if ((mode & OTHERS) === 0) return 'was closed';
    await handle.chmod(mode & OWNER);
    return 'closed';
  } finally {
    await handle.close();
  }
}

async function entriesOf(path: string): Promise<Dirent[]> {
  return (await readdir(path, { withFileTypes: true }).catch(ignoreGone)) ?? [];
}

/** A file that is gone, was replaced, or belongs to another user needs no change by us. */
function ignoreGone(error: unknown): undefined {
  const known = ['ENOENT', 'ENOTDIR', 'ELOOP', 'EACCES', 'EPERM', 'ENXIO'];
  if (known.some((code) => isErrno(error, code))) return undefined;
  throw error;
}
