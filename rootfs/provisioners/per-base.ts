import { stat } from 'node:fs/promises';
import { LRUCache } from 'lru-cache';
import type { DiskRef } from '../../domain/vm.ts';

/** Bases whose preparation is remembered; images are few, templates come and go. */
const REMEMBERED = 32;

/**
 * A value computed once for a base and used for every disk over it.
 * @param make called again where the file at the path has been replaced, or where the previous call failed
 */
export function rememberedPerBase<T>(
  make: (base: DiskRef, temporary: string) => Promise<T>,
): (base: DiskRef, temporary: string) => Promise<T> {
  const known = new LRUCache<string, Promise<T>>({ max: REMEMBERED });
  return async (base, temporary) => {
    const { size, mtimeMs, ino } = await stat(base.path);
    const key = `${base.path}\0${base.format}\0${size}\0${mtimeMs}\0${ino}`;
    const found = known.get(key);
    if (found !== undefined) return await found;
    const made = make(base, temporary);
    known.set(key, made);
    made.catch(() => known.delete(key));
    return await made;
  };
}
