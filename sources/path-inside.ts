import { isAbsolute, relative, sep } from 'node:path';

/** @returns whether `path` is `root` or below it; both real and absolute */
export function isInside(root: string, path: string): boolean {
  const way = relative(root, path);
  return way === '' || (way !== '..' && !way.startsWith(`..${sep}`) && !isAbsolute(way));
}
