/** An object store in memory, with conditional writes as the real one has them. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { Readable } from 'node:stream';
import type { z } from 'zod';
import { defined } from '../../../domain/defined.ts';
import { KilnError } from '../../../domain/failures.ts';
import { jsonOrUndefined } from '../../../domain/json-or-undefined.ts';
import type { BlobSource, ListOptions, ObjectPage, ObjectStore, WriteCondition } from '../../../store/object-store.ts';

type Methods =
  | 'readDocument'
  | 'writeDocument'
  | 'putBlob'
  | 'openBlob'
  | 'readBlob'
  | 'readPart'
  | 'headBlob'
  | 'list'
  | 'delete';

export interface MemoryStore extends Pick<ObjectStore, Methods | 'listAll'> {
  /** Its clock, ms since 1970. */
  nowMs: number;
  readonly objects: Map<string, Buffer>;
  /** Asked before and after the effect of each call; what it throws, the caller gets. */
  onCall: (call: { readonly method: Methods; readonly key: string; readonly at: 'before' | 'after' }) => void;
}

export function createMemoryStore(): MemoryStore {
  const objects = new Map<string, Buffer>();
  const written = new Map<string, number>();
  const put = (key: string, data: Buffer) => {
    objects.set(key, data);
    written.set(key, store.nowMs);
  };
  const sha = (data: Buffer) => createHash('sha256').update(data).digest('hex');
  const call = async <T>(method: Methods, key: string, effect: () => T | Promise<T>): Promise<T> => {
    store.onCall({ method, key, at: 'before' });
    const result = await effect();
    store.onCall({ method, key, at: 'after' });
    return result;
  };
  const blob = (key: string): Buffer => {
    const data = objects.get(key);
    if (data === undefined) throw new KilnError('NOT_FOUND', `There is no object ${key}.`);
    return data;
  };
  const conflict = (key: string) => new KilnError('STORE_CONFLICT', `Another writer has changed ${key}.`);
  const store: MemoryStore = {
    objects,
    nowMs: 0,
    onCall: () => undefined,
    readDocument: <T>(key: string, schema: z.ZodType<T>) =>
      call('readDocument', key, () => {
        const data = objects.get(key);
        if (data === undefined) return undefined;
        const parsed = schema.safeParse(jsonOrUndefined(data.toString()));
        if (!parsed.success) throw conflict(key);
        return { value: parsed.data, etag: sha(data) };
      }),
    writeDocument: (key: string, value: unknown, condition?: WriteCondition) =>
      call('writeDocument', key, () => {
        const data = Buffer.from(JSON.stringify(value));
        const present = objects.get(key);
        const isMet =
          condition === undefined ||
          (condition === 'create' ? present === undefined : present !== undefined && sha(present) === condition.etag);
        if (!isMet && !present?.equals(data)) throw conflict(key);
        put(key, data);
        return { etag: sha(data), written: isMet };
      }),
    putBlob: (key: string, source: BlobSource, { expectedSha256 }: { expectedSha256?: string } = {}) =>
      call('putBlob', key, async () => {
        const data = 'data' in source ? Buffer.from(source.data) : await readFile(source.path);
        const sha256 = sha(data);
        if (expectedSha256 !== undefined && expectedSha256 !== sha256) {
          throw new KilnError('IMAGE_CORRUPT', `The bytes for ${key} are not as expected.`);
        }
        put(key, data);
        return { sha256, bytes: data.length };
      }),
    openBlob: (key) => call('openBlob', key, () => ({ bytes: blob(key).length, stream: Readable.from([blob(key)]) })),
    readBlob: (key, maxBytes) =>
      call('readBlob', key, () => {
        if (blob(key).length > maxBytes) throw new KilnError('PAYLOAD_TOO_LARGE', `${key} is too large.`);
        return blob(key);
      }),
    readPart: (key, { offset, length }) => call('readPart', key, () => blob(key).subarray(offset, offset + length)),
    headBlob: (key) => call('headBlob', key, () => (objects.has(key) ? { bytes: blob(key).length } : undefined)),
    list: (prefix, options) => call('list', prefix, () => pageOf(objects, written, prefix, options)),
    async *listAll(prefix, options = {}) {
      let { after } = options;
      do {
        const page: ObjectPage = await store.list(prefix, { ...options, ...defined({ after }) });
        yield* page.objects;
        after = page.next;
      } while (after !== undefined);
    },
    delete: (key) => call('delete', key, () => void objects.delete(key)),
  };
  return store;
}

/** Pages are short, so that a reader meets their ends. */
const PAGE = 20;

function pageOf(
  objects: ReadonlyMap<string, Buffer>,
  written: ReadonlyMap<string, number>,
  prefix: string,
  { after, limit = PAGE, delimiter }: ListOptions = {},
): ObjectPage {
  const keys = [...objects.keys()]
    .filter((key) => key.startsWith(prefix) && (after === undefined || key > after))
    .sort();
  const shown = keys.map((key) => {
    const end = delimiter === undefined ? -1 : key.indexOf(delimiter, prefix.length);
    return end < 0 ? key : key.slice(0, end + 1);
  });
  const names = [...new Set(shown)];
  const page = names.slice(0, limit);
  const info = (key: string) => ({
    key,
    bytes: objects.get(key)?.length ?? 0,
    etag: '',
    modifiedMs: written.get(key) ?? 0,
  });
  return {
    objects: page.filter((name) => objects.has(name)).map(info),
    folders: page.filter((name) => !objects.has(name)),
    ...defined({ next: names.length > limit ? page.at(-1) : undefined }),
  };
}
