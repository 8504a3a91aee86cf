/** A part of a bucket: the objects under one prefix, as if there were no others. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { z } from 'zod';
import type { ObjectStore } from '../../store/object-store.ts';
import { prefixedStore } from '../../store/prefixed-store.ts';
import { freshObjectStore } from '../support/servers/object-store.ts';

const anything = z.unknown();
let bucket: ObjectStore;
let part: ObjectStore;

beforeAll(async () => {
  bucket = await freshObjectStore();
  part = prefixedStore(bucket, 'teams/kiln');
});
afterAll(() => bucket.close());

it('keeps documents and blobs below the prefix, under the names that it was given', async () => {
  await part.writeDocument('a/1.json', { n: 1 }, 'create');
  await part.putBlob('a/blob', { data: Buffer.from('bytes') });
  expect((await bucket.readDocument('teams/kiln/a/1.json', anything))?.value).toEqual({ n: 1 });
  expect((await part.readDocument('a/1.json', anything))?.value).toEqual({ n: 1 });
  expect((await part.readBlob('a/blob', 10)).toString()).toBe('bytes');
  expect(await part.headBlob('a/blob')).toMatchObject({ bytes: 5 });
  expect(await part.readDocument('teams/kiln/a/1.json', anything)).toBeUndefined();
  await expect(part.writeDocument('a/1.json', { n: 2 }, 'create')).rejects.toMatchObject({ code: 'STORE_CONFLICT' });
  await part.delete('a/blob');
  expect(await bucket.headBlob('teams/kiln/a/blob')).toBeUndefined();
});

it('lists what is below it alone, page by page', async () => {
  await bucket.writeDocument('teams/kiln-other/b/1.json', {});
  await bucket.writeDocument('b/0.json', {});
  const names = ['b/1.json', 'b/2.json', 'b/3.json', 'b/deep/4.json'];
  for (const name of names) await part.writeDocument(name, {});
  const all: string[] = [];
  for await (const { key } of part.listAll('b/', { limit: 2 })) all.push(key);
  expect(all).toEqual(names);
  const first = await part.list('b/', { limit: 2 });
  expect([first.objects.map(({ key }) => key), first.next]).toEqual([names.slice(0, 2), 'b/2.json']);
  expect((await part.list('b/', { after: 'b/2.json' })).objects.map(({ key }) => key)).toEqual(names.slice(2));
  expect((await part.list('b/', { delimiter: '/' })).folders).toEqual(['b/deep/']);
});

it('is the whole bucket without a prefix, and takes a slash at the end', async () => {
  expect(prefixedStore(bucket, undefined)).toBe(bucket);
  await part.writeDocument('c.json', { c: 1 });
  expect((await prefixedStore(bucket, 'teams/kiln/').readDocument('c.json', anything))?.value).toEqual({ c: 1 });
});

it.each(['', '/', '/teams', 'teams//kiln', 'teams kiln'])('refuses %j', (prefix) => {
  expect(() => prefixedStore(bucket, prefix)).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
});
