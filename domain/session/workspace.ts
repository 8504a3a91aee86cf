/**
 * A workspace as it is saved: one entry for each path, in the order of the bytes of their names. Pure.
 * Names are bytes, not text: here each is a string of which every character stands for one byte (latin1), so that the
 * order of strings is the order of bytes.
 */

/** A piece of a file: its id is the SHA-256 (hex) of the session's salt and its bytes. `''`: so many bytes 0, not stored. */
export interface Chunk {
  readonly id: string;
  readonly bytes: number;
}

interface Owned {
  /** Without slash at begin or end; the workspace itself is `''`. */
  readonly path: string;
  readonly uid: number;
  readonly gid: number;
  /** ns since 1970, as a decimal number that may be negative: it does not fit into a number. */
  readonly mtimeNs: string;
}

interface WithMode extends Owned {
  /** 0 to 0o7777. */
  readonly mode: number;
  /** Values in base64. */
  readonly xattrs?: Readonly<Record<string, string>>;
}

export interface FolderEntry extends WithMode {
  readonly type: 'folder';
}

export interface FileEntry<C extends Chunk = Chunk> extends WithMode {
  readonly type: 'file';
  readonly size: number;
  readonly chunks: readonly C[];
}

export interface SymlinkEntry extends Owned {
  readonly type: 'symlink';
  /** Its text, one character for each byte. */
  readonly target: string;
}

/** Another name of a file that has an entry of its own before this one. */
export interface HardlinkEntry {
  readonly type: 'hardlink';
  readonly path: string;
  readonly target: string;
}

export type WorkspaceEntry<C extends Chunk = Chunk> = FolderEntry | FileEntry<C> | SymlinkEntry | HardlinkEntry;

/** What cannot be saved; it is listed. */
export interface SkippedPath {
  readonly path: string;
  readonly type: 'socket' | 'pipe' | 'device' | 'mount';
}

/** What a workspace may hold at most. */
export const WORKSPACE_LIMITS = {
  entries: 2_000_000,
  /** Of a save: one for each small file, and large ones are cut into chunks of 64 KiB at least. */
  chunks: 3_000_000,
  /** Of one file, holes included: 64 GiB in the smallest chunks. */
  fileChunks: 1_048_576,
  bytes: 64 * 1024 ** 3,
  pathBytes: 4096,
  nameBytes: 255,
  chunkBytes: 1024 * 1024,
  xattrBytes: 64 * 1024,
} as const;

/** @returns whether it is a path within a workspace; `''` is the workspace itself */
export function isWorkspacePath(path: string): boolean {
  if (path === '') return true;
  if (path.length > WORKSPACE_LIMITS.pathBytes || path.includes('\0')) return false;
  return path
    .split('/')
    .every((name) => name !== '' && name !== '.' && name !== '..' && name.length <= WORKSPACE_LIMITS.nameBytes);
}

/** @returns the folder that a path is in; undefined for the workspace itself */
export function folderOf(path: string): string | undefined {
  if (path === '') return undefined;
  return path.slice(0, Math.max(0, path.lastIndexOf('/')));
}

/** Bytes of its content, holes included. */
export function bytesOfEntry(entry: WorkspaceEntry): number {
  return entry.type === 'file' ? entry.size : 0;
}

/**
 * A file that changes while its holes are looked for may be told with several in a row.
 * @returns the same chunks, where no hole follows another
 */
export function withHolesJoined<C extends Chunk>(chunks: readonly C[]): C[] {
  const joined: C[] = [];
  for (const chunk of chunks) {
    const last = joined.at(-1);
    if (chunk.id === '' && last?.id === '') joined[joined.length - 1] = { ...last, bytes: last.bytes + chunk.bytes };
    else joined.push(chunk);
  }
  return joined;
}

/**
 * Checks whole workspaces, entry after entry, in their order: each path once and after the folder that it is in, hard
 * links after their files, all within the limits.
 * @returns what is wrong with the next entry; undefined where nothing is
 */
export function createWorkspaceCheck(): (entry: WorkspaceEntry) => string | undefined {
  const folders = new Set<string>();
  const files = new Set<string>();
  let last: string | undefined;
  let entries = 0;
  let bytes = 0;
  return (entry) => {
    const { path, type } = entry;
    entries += 1;
    bytes += bytesOfEntry(entry);
    if (entries > WORKSPACE_LIMITS.entries || bytes > WORKSPACE_LIMITS.bytes) return 'holds more than a workspace may';
    if (last === undefined ? path !== '' || type !== 'folder' : path <= last) return 'is not in order';
    last = path;
    if (path !== '' && !folders.has(folderOf(path) ?? '')) return 'is in no folder';
    if (type === 'folder') folders.add(path);
    if (type === 'file') {
      files.add(path);
      if (entry.chunks.length > WORKSPACE_LIMITS.fileChunks) return 'has more chunks than a file may';
      const sum = entry.chunks.reduce((total, chunk) => total + chunk.bytes, 0);
      if (sum !== entry.size) return `has ${entry.size} bytes, its chunks have ${sum}`;
    }
    if (type === 'hardlink' && !files.has(entry.target)) return 'is a link to no file';
    return undefined;
  };
}
