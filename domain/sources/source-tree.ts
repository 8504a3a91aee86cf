/** What uploaded sources may contain: names, links, limits. Pure, so that packer and checker agree. */

/** Longest path of an entry, bytes of UTF-8. */
export const MAX_ENTRY_PATH = 1024;
/** Longest name of one file or folder, bytes of UTF-8: the limit of Linux file systems. */
export const MAX_ENTRY_NAME = 255;

/** Folders that every build makes again, or that do not belong to a service. */
export const LEFT_OUT_OF_BUILDS: readonly string[] = ['node_modules', '.git', '.venv', '__pycache__'];
/** What is never uploaded from a caller's folder, whatever its ignore files say. */
export const LEFT_OUT_OF_UPLOADS: readonly string[] = [...LEFT_OUT_OF_BUILDS, '.kiln'];

/** Kiln's own ignore file comes first; where a folder has one, its `.gitignore` does not count. */
export const IGNORE_FILES = ['.kilnignore', '.gitignore'] as const;

/** The kinds of entry that sources consist of. */
export type SourceEntryKind = 'file' | 'directory' | 'symlink';

/** @returns the kind of an entry, or undefined where sources may not contain that kind. */
export function sourceEntryKind(type: string | null): SourceEntryKind | undefined {
  if (type === 'file' || type === 'contiguous-file') return 'file';
  return type === 'directory' || type === 'symlink' ? type : undefined;
}

/**
 * @param name as in an archive: `./a//b/` is `a/b`
 * @returns the plain path, empty for the folder itself
 */
export function plainEntryPath(name: string): string {
  return name
    .split('/')
    .filter((part) => part !== '' && part !== '.')
    .join('/');
}

/** @returns what is wrong with the name of an entry; undefined: nothing. */
export function entryNameProblem(name: string): string | undefined {
  if (name.startsWith('/')) return 'is absolute';
  if (/[\u0000-\u001f\u007f]/.test(name)) return 'holds control characters';
  if (name.includes('\ufffd')) return 'is no UTF-8';
  const parts = name.split('/');
  if (parts.includes('..')) return 'contains ".."';
  if (utf8Length(name) > MAX_ENTRY_PATH) return `is longer than ${MAX_ENTRY_PATH} bytes`;
  if (parts.some((part) => utf8Length(part) > MAX_ENTRY_NAME)) return `has a part longer than ${MAX_ENTRY_NAME} bytes`;
  return undefined;
}

/**
 * A target may go up only at its beginning: the link's own place decides about `../a`, while `a/..` depends on where
 * another link leads.
 * @param path plain path of the link
 * @returns what is wrong with the target of a symbolic link; undefined: nothing
 */
export function linkProblem(path: string, target: string): string | undefined {
  if (target === '' || target.startsWith('/')) return 'leads to an absolute path';
  const wrong = entryNameProblem(target.replace(/^(?:\.{1,2}\/)*(?:\.{1,2}$)?/, ''));
  if (wrong !== undefined) return `has a target that ${wrong}`;
  const climbed = target.split('/').filter((part) => part === '..').length;
  return climbed > path.split('/').length - 1 ? 'leads out of the folder' : undefined;
}

function utf8Length(text: string): number {
  let bytes = 0;
  for (const char of text) {
    const code = char.codePointAt(0) ?? 0;
    bytes += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x1_0000 ? 3 : 4;
  }
  return bytes;
}
