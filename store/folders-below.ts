/** The folders right below a prefix, in byte order, page by page. */
import { defined } from '../domain/defined.ts';
import type { ObjectPage, ObjectStore } from './object-store.ts';

/**
 * @param after a folder: only those behind it
 * @returns prefixes that end with a slash. @throws STORE_UNAVAILABLE
 */
export async function* foldersBelow(
  store: Pick<ObjectStore, 'list'>,
  prefix: string,
  after?: string,
): AsyncGenerator<string, undefined> {
  let last = after;
  let next = after;
  do {
    const page: ObjectPage = await store.list(prefix, { delimiter: '/', ...defined({ after: next }) });
    for (const folder of page.folders) {
      // A server may list the folder again after which the page begins.
      if (last !== undefined && folder <= last) continue;
      last = folder;
      yield folder;
    }
    next = page.next;
  } while (next !== undefined);
  return undefined;
}
