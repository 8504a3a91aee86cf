import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KilnError } from '../../../../domain/failures.ts';
import { type BuildStoreOptions, createBuildStore } from '../../../../host/builds/build-store.ts';
import { silentLogger } from '../../../support/workers/silent-logger.ts';

type Store = BuildStoreOptions['store'];
const sha256 = (data: Buffer) => createHash('sha256').update(data).digest('hex');
const KEY = 'a'.repeat(64);

let root: string;
let blobs: Map<string, Buffer>;
let documents: Map<string, string>;
let opens: number;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'kb-'));
  blobs = new Map();
  documents = new Map();
  opens = 0;
});
afterEach(() => rm(root, { recursive: true, force: true }));

/** An object store in memory, with the same rules. */
const store: Store = {
  async readDocument(key, schema) {
    const text = documents.get(key);
    return text === undefined ? undefined : { value: schema.parse(JSON.parse(text)), etag: text };
  },
  async writeDocument(key, value, condition) {
    const found = documents.get(key);
    const text = JSON.stringify(value);
    const fits = condition === 'create' ? found === undefined : condition === undefined || condition.etag === found;
    if (!fits && found !== text) throw new KilnError('STORE_CONFLICT', 'changed');
    documents.set(key, text);
    return { etag: text, written: fits };
  },
  async putBlob(key, source) {
    const data = 'path' in source ? await readFile(source.path) : source.data;
    blobs.set(key, data);
    return { bytes: data.length, sha256: sha256(data) };
  },
  async openBlob(key) {
    const data = blobs.get(key);
    if (data === undefined) throw new KilnError('NOT_FOUND', 'no such key');
    opens++;
    return { bytes: data.length, stream: Readable.from([data]) };
  },
  async headBlob(key) {
    const data = blobs.get(key);
    return data === undefined ? undefined : { bytes: data.length };
  },
};

const open = (host = 'h1', maxCacheBytes = 1_000_000) =>
  createBuildStore({ stateDir: join(root, host), store, maxCacheBytes, logger: silentLogger });
async function tar(data = randomBytes(1000)): Promise<{ path: string; data: Buffer }> {
  const path = join(root, `${randomBytes(4).toString('hex')}.tar`);
  await writeFile(path, data);
  return { path, data };
}

describe('build store', () => {
  it('an output is found by its key, on this host and on another', async () => {
    const { path, data } = await tar();
    const output = await open().save(path, KEY);
    expect(output).toEqual({ sha256: sha256(data), bytes: data.length });
    expect(await open('h2').find(KEY)).toEqual(output);
    expect(await buffer(await open('h2').open(output))).toEqual(data);
    expect(await buffer(await open().open(output))).toEqual(data);
    expect(opens).toBe(1);
  });

  it('without a key it is there by digest only', async () => {
    const { path, data } = await tar();
    const output = await open().save(path, undefined);
    expect(documents.size).toBe(0);
    expect(await buffer(await open('h2').open(output))).toEqual(data);
  });

  it('the first output under a key stays, and all get it', async () => {
    const [a, b] = [await tar(), await tar()];
    const saved = await Promise.all([open().save(a.path, KEY), open('h2').save(b.path, KEY)]);
    expect(saved[0]).toEqual(saved[1]);
    expect(await open('h3').find(KEY)).toEqual(saved[0]);
  });

  it('an index whose tar is gone counts for nothing, and is replaced', async () => {
    const first = await open().save((await tar()).path, KEY);
    blobs.clear();
    expect(await open().find(KEY)).toBeUndefined();
    const second = await open().save((await tar()).path, KEY);
    expect(second).not.toEqual(first);
    expect(await open().find(KEY)).toEqual(second);
  });

  it('a damaged copy is told while it is read, and fetched anew the next time', async () => {
    const { path, data } = await tar();
    const output = await open().save(path, KEY);
    const copy = join(root, 'h1', 'builds', `${output.sha256}.tar`);
    await writeFile(copy, randomBytes(data.length));
    await expect(open().open(output).then(buffer)).rejects.toMatchObject({ code: 'IMAGE_CORRUPT' });
    expect(await buffer(await open().open(output))).toEqual(data);
  });

  it('a tar that is damaged in the store never becomes a copy', async () => {
    const { path, data } = await tar();
    const output = await open().save(path, KEY);
    blobs.set(`blobs/${output.sha256}`, randomBytes(data.length));
    await expect(open('h2').open(output)).rejects.toMatchObject({ code: 'IMAGE_CORRUPT' });
    expect(await readdir(join(root, 'h2', 'builds'))).toEqual([]);
    blobs.clear();
    await expect(open('h2').open(output)).rejects.toMatchObject({ code: 'IMAGE_CORRUPT' });
  });

  it('many opens at once fetch once', async () => {
    const { path, data } = await tar();
    const output = await open().save(path, undefined);
    const other = open('h2');
    const read = await Promise.all(Array.from({ length: 10 }, async () => buffer(await other.open(output))));
    expect(read.every((copy) => copy.equals(data))).toBe(true);
    expect(opens).toBe(1);
  });

  it('copies are bounded, outputs are not lost with them', async () => {
    const builds = open('h1', 2500);
    const saved = [];
    for (let index = 0; index < 5; index++) saved.push(await builds.save((await tar()).path, undefined));
    expect((await readdir(join(root, 'h1', 'builds'))).length).toBeLessThanOrEqual(2);
    for (const output of saved) expect((await buffer(await builds.open(output))).length).toBe(1000);
  });

  it('an odd digest or key never becomes a path', async () => {
    await expect(open().open({ sha256: '../../x', bytes: 1 })).rejects.toMatchObject({ code: 'INTERNAL' });
    await expect(open().find('../x')).rejects.toMatchObject({ code: 'INTERNAL' });
  });
});
