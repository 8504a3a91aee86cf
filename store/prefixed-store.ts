/** A part of a bucket: every key of the store lies under one prefix, which callers do not see. */
import { KilnError } from '../domain/failures.ts';
import type { ObjectStore } from './object-store.ts';

const PREFIX = /^[A-Za-z0-9!_.*'()-]+(\/[A-Za-z0-9!_.*'()-]+)*\/?$/;

/**
 * @param prefix a folder, e.g. `teams/kiln`, with or without a slash at its end; absent: the whole bucket
 * @returns a store whose keys are those below the prefix; closing it closes the store below
 * @throws CONFIG_INVALID where the prefix is no folder
 */
export function prefixedStore(store: ObjectStore, prefix: string | undefined): ObjectStore {
  if (prefix === undefined) return store;
  if (!PREFIX.test(prefix)) {
    throw new KilnError('CONFIG_INVALID', `The prefix "${prefix}" of the object store is no folder, e.g. teams/kiln.`);
  }
  const folder = prefix.endsWith('/') ? prefix : `${prefix}/`;
  const inside = (key: string) => key.slice(folder.length);
  const below = <T extends { readonly after?: string }>(options: T): T =>
    options.after === undefined ? options : { ...options, after: folder + options.after };
  return {
    bucket: store.bucket,
    readDocument: (key, schema) => store.readDocument(folder + key, schema),
    writeDocument: (key, value, condition) => store.writeDocument(folder + key, value, condition),
    putBlob: (key, source, options) => store.putBlob(folder + key, source, options),
    openBlob: (key, signal) => store.openBlob(folder + key, signal),
    readBlob: (key, maxBytes, signal) => store.readBlob(folder + key, maxBytes, signal),
    readPart: (key, part, signal) => store.readPart(folder + key, part, signal),
    headBlob: (key) => store.headBlob(folder + key),
    list: async (keys, options = {}) => {
      const { objects, folders, next } = await store.list(folder + keys, below(options));
      return {
        objects: objects.map((object) => ({ ...object, key: inside(object.key) })),
        folders: folders.map(inside),
        ...(next === undefined ? {} : { next: inside(next) }),
      };
    },
    async *listAll(keys, options = {}) {
      for await (const object of store.listAll(folder + keys, below(options))) {
        yield { ...object, key: inside(object.key) };
      }
    },
    delete: (key) => store.delete(folder + key),
    ensureBucket: () => store.ensureBucket(),
    close: () => store.close(),
  };
}
