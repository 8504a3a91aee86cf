/** Finds folders of services below the project root, and never leaves that root. */
import { realpath, stat } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { KilnError } from '../../domain/failures.ts';
import { isErrno } from '../../linux/errno.ts';
import { isInside } from '../../sources/path-inside.ts';

/**
 * @param servicePath relative to the project root
 * @returns the real absolute path of the folder
 * @throws SPEC_INVALID where the path is absolute or leads out of the root, SERVICE_NOT_FOUND where there is no folder
 */
export async function findServiceFolder(projectRoot: string, servicePath: string): Promise<string> {
  const parts = servicePath.split(/[/\\]/);
  if (servicePath === '' || servicePath.includes('\0') || isAbsolute(servicePath) || parts.includes('..')) {
    throw new KilnError(
      'SPEC_INVALID',
      `The service path "${printable(servicePath)}" must be relative to the project root and must not contain "..".`,
    );
  }
  const root = await realpath(projectRoot);
  const path = join(root, servicePath);
  const real = await realpath(path).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'ENAMETOOLONG', 'ELOOP')) return undefined;
    throw error;
  });
  if (real === undefined || !(await stat(real)).isDirectory()) {
    throw new KilnError('SERVICE_NOT_FOUND', `Service directory not found: ${printable(servicePath)}`, {
      projectRoot: root,
    });
  }
  if (!isInside(root, real)) {
    throw new KilnError(
      'SPEC_INVALID',
      `The service path ${printable(servicePath)} is a link that leads out of the project root; put the folder itself there.`,
    );
  }
  return real;
}

/** A path in a form that is safe in a message. */
export function printable(path: string): string {
  return path.slice(0, 512).replace(/[\0-\x1f\x7f]/g, '?');
}
