import { randomBytes } from 'node:crypto';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { z } from 'zod';
import { probeConditionalWrites } from '../../store/conditional-write-probe.ts';
import { createObjectStore, type ObjectStore } from '../../store/object-store.ts';
import { writeOnce } from '../../store/write-once.ts';
import { freshObjectStore } from '../support/servers/object-store.ts';

const counter = z.object({ n: z.number() });

let store: ObjectStore;
let directory: string;

beforeAll(async () => {
  store = await freshObjectStore();
  directory = await mkdtemp(join(tmpdir(), 'kiln-store-test-'));
});
afterAll(async () => {
  store.close();
  await rm(directory, { recursive: true, force: true });
});

test('calls that follow each other go over one connection', async () => {
  await store.headBlob('none');
  let opened = 0;
  const count = () => {
    opened++;
  };
  subscribe('net.client.socket', count);
  try {
    for (let n = 0; n < 20; n++) {
      await store.writeDocument('docs/again.json', { n });
      expect(await store.readDocument('docs/again.json', counter)).toMatchObject({ value: { n } });
    }
  } finally {
    unsubscribe('net.client.socket', count);
  }
  // The one that is free may be taken only after the answer that came over it has ended.
  expect(opened).toBeLessThanOrEqual(2);
});

describe('documents', () => {
  test('are absent, then created once, then changed only by whoever read the last version', async () => {
    expect(await store.readDocument('docs/a.json', counter)).toBeUndefined();
    const first = await store.writeDocument('docs/a.json', { n: 1 }, 'create');
    expect(first.written).toBe(true);
    await expect(store.writeDocument('docs/a.json', { n: 2 }, 'create')).rejects.toMatchObject({
      code: 'STORE_CONFLICT',
    });
    const second = await store.writeDocument('docs/a.json', { n: 3 }, { etag: first.etag });
    await expect(store.writeDocument('docs/a.json', { n: 4 }, { etag: first.etag })).rejects.toMatchObject({
      code: 'STORE_CONFLICT',
    });
    expect(await store.readDocument('docs/a.json', counter)).toEqual({ value: { n: 3 }, etag: second.etag });
  });

  test('a condition on a document that is gone is a conflict', async () => {
    await expect(store.writeDocument('docs/none.json', { n: 1 }, { etag: '"0"' })).rejects.toMatchObject({
      code: 'STORE_CONFLICT',
    });
  });

  test('the same bytes written again under a condition are no conflict, and said to be no new write', async () => {
    const first = await store.writeDocument('docs/same.json', { n: 1 }, 'create');
    expect(await store.writeDocument('docs/same.json', { n: 1 }, 'create')).toEqual({
      etag: first.etag,
      written: false,
    });
  });

  test('of another form are refused', async () => {
    await store.writeDocument('docs/form.json', { n: 'one' });
    await expect(store.readDocument('docs/form.json', counter)).rejects.toMatchObject({ code: 'STORE_CONFLICT' });
    await store.putBlob('docs/text.json', { data: Buffer.from('{"n": 1') });
    await expect(store.readDocument('docs/text.json', counter)).rejects.toMatchObject({ code: 'STORE_CONFLICT' });
  });

  test('of many creators at once exactly one wins', async () => {
    const writes = Array.from({ length: 20 }, (_, n) => store.writeDocument('docs/race.json', { n }, 'create'));
    const settled = await Promise.allSettled(writes);
    expect(settled.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  });
});

describe('blobs', () => {
  test('from a file and from memory come back whole, with their digest', async () => {
    const data = randomBytes(3_000_000);
    const path = join(directory, 'blob');
    await writeFile(path, data);
    const put = await store.putBlob('blobs/file', { path });
    expect(put.bytes).toBe(data.length);
    expect(await store.headBlob('blobs/file')).toEqual(put);
    expect((await store.readBlob('blobs/file', data.length)).equals(data)).toBe(true);
    await store.putBlob('blobs/memory', { data });
    expect(await store.headBlob('blobs/memory')).toEqual(put);
  });

  test('empty ones too', async () => {
    await store.putBlob('blobs/empty', { data: Buffer.alloc(0) });
    expect(await store.readBlob('blobs/empty', 10)).toHaveLength(0);
  });

  test('that are not what was expected are not stored', async () => {
    const put = store.putBlob('blobs/other', { data: Buffer.from('a') }, { expectedSha256: '0'.repeat(64) });
    await expect(put).rejects.toMatchObject({ code: 'IMAGE_CORRUPT' });
    expect(await store.headBlob('blobs/other')).toBeUndefined();
  });

  test('missing ones are NOT_FOUND, large ones are not read into memory', async () => {
    await expect(store.openBlob('blobs/none')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await store.putBlob('blobs/large', { data: Buffer.alloc(100) });
    await expect(store.readBlob('blobs/large', 99)).rejects.toMatchObject({ code: 'PAYLOAD_TOO_LARGE' });
  });
});

describe('lists', () => {
  test('come page by page in the order of keys, with folders where asked for', async () => {
    const keys = ['list/a/1', 'list/a/2', 'list/b', 'list/c/1'];
    for (const key of keys) await store.writeDocument(key, {});
    const first = await store.list('list/', { limit: 3 });
    expect(first.objects.map(({ key }) => key)).toEqual(keys.slice(0, 3));
    expect(first.next).toBe('list/b');
    const second = await store.list('list/', { limit: 3, after: 'list/b' });
    expect(second.objects.map(({ key }) => key)).toEqual(['list/c/1']);
    expect(second.next).toBeUndefined();
    expect((await store.list('list/', { delimiter: '/' })).folders).toEqual(['list/a/', 'list/c/']);
    const all: string[] = [];
    for await (const { key } of store.listAll('list/')) all.push(key);
    expect(all).toEqual(keys);
  });

  test('deleting is done whether or not the key is there', async () => {
    await store.writeDocument('gone.json', {});
    await store.delete('gone.json');
    await store.delete('gone.json');
    expect((await store.list('gone')).objects).toEqual([]);
  });
});

describe('a store that cannot be used', () => {
  test('that is away is STORE_UNAVAILABLE', async () => {
    const away = await freshObjectStore({ endpoint: 'http://127.0.0.1:1', bucket: 'none' });
    await expect(away.readDocument('a', counter)).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    await expect(away.writeDocument('a', {}, 'create')).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    await expect(away.putBlob('a', { data: Buffer.from('a') })).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    await expect(away.list('a')).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    await expect(away.ensureBucket()).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
  });

  test('without the bucket says so instead of "not found"', async () => {
    const empty = await freshObjectStore({ bucket: 'never-made' });
    await expect(empty.readDocument('a', counter)).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    await expect(empty.writeDocument('a', {}, 'create')).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
  });

  test('the probe accepts the real one and leaves nothing', async () => {
    await probeConditionalWrites(store, { contenders: 20 });
    expect((await store.list('probe/')).objects).toEqual([]);
  });
});

describe('a faulty store', () => {
  const objects = new Map<string, Buffer>();
  let server: Server;
  let answer: (method: string, body: Buffer, reply: ServerResponse) => void;
  let faulty: ObjectStore;
  let persistent: ObjectStore;

  beforeAll(async () => {
    server = createServer((request, reply) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => answer(request.method ?? '', Buffer.concat(chunks), reply));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const s3 = inject('s3');
    const storeOf = (attempts: number) =>
      createObjectStore({
        endpoint: `http://127.0.0.1:${port}`,
        region: s3.region,
        bucket: 'faulty',
        credentials: { accessKeyId: s3.accessKeyId, secretAccessKey: s3.secretAccessKey },
        forcePathStyle: true,
        timeouts: { connectMs: 1_000, idleMs: 5_000, attempts },
      });
    faulty = storeOf(1);
    persistent = storeOf(2);
  });
  afterAll(() => {
    faulty.close();
    persistent.close();
    server.closeAllConnections();
    server.close();
  });

  test('many calls at once each have the whole time to connect', async () => {
    const many = 120;
    let waiting: ServerResponse[] = [];
    // Answers nobody before all of them have arrived.
    answer = (_method, _body, reply) => {
      waiting.push(reply);
      if (waiting.length < many) return;
      for (const each of waiting) each.writeHead(200, { etag: '"x"' }).end();
      waiting = [];
    };
    const heads = await Promise.all(Array.from({ length: many }, (_, n) => faulty.headBlob(`many/${n}`)));
    expect(heads).toHaveLength(many);
  });

  test('a write whose reply is lost is found to have succeeded', async () => {
    answer = (method, body, reply) => {
      if (method === 'PUT') {
        objects.set('key', body);
        reply.destroy();
      } else {
        reply.setHeader('ETag', '"ours"');
        reply.end(objects.get('key'));
      }
    };
    expect(await faulty.writeDocument('key', { n: 1 }, 'create')).toEqual({ etag: '"ours"', written: false });
  });

  test.each([
    [409, 'ConditionalRequestConflict'],
    [404, 'NoSuchKey'],
  ])(
    'a create that is refused with %i where nothing stands is no conflict: it is to be repeated',
    async (status, code) => {
      answer = (method, _body, reply) => {
        if (method === 'PUT') reply.writeHead(status).end(`<Error><Code>${code}</Code></Error>`);
        else reply.writeHead(404).end('<Error><Code>NoSuchKey</Code></Error>');
      };
      await expect(writeOnce(faulty, 'never-there', { n: 1 })).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
      // In this case somebody else has deleted the document that was to be changed.
      const change = faulty.writeDocument('never-there', { n: 2 }, { etag: '"gone"' });
      await expect(change).rejects.toMatchObject({ code: 'STORE_CONFLICT' });
    },
  );

  test('a create that is refused for another write, which did not come to be, is made again', async () => {
    let puts = 0;
    answer = (method, _body, reply) => {
      puts += method === 'PUT' ? 1 : 0;
      if (method !== 'PUT') reply.writeHead(404).end('<Error><Code>NoSuchKey</Code></Error>');
      else if (puts === 1) reply.writeHead(409).end('<Error><Code>ConditionalRequestConflict</Code></Error>');
      else reply.writeHead(200, { etag: '"ours"' }).end();
    };
    expect(await persistent.writeDocument('free', { n: 1 }, 'create')).toEqual({ etag: '"ours"', written: true });
  });

  test('one that ignores conditions fails the probe', async () => {
    let stored = Buffer.alloc(0);
    answer = (method, body, reply) => {
      reply.setHeader('ETag', '"any"');
      if (method === 'PUT') stored = Buffer.from(body);
      reply.end(method === 'GET' ? stored : undefined);
    };
    await expect(probeConditionalWrites(faulty, { contenders: 5 })).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });

  test('bytes that are not those that were put fail the reader', async () => {
    answer = (_method, _body, reply) => {
      reply.setHeader('x-amz-meta-sha256', '0'.repeat(64));
      reply.end('damaged');
    };
    await expect(faulty.readBlob('key', 100)).rejects.toMatchObject({ code: 'IMAGE_CORRUPT' });
  });

  test('an answer cut short fails the reader', async () => {
    answer = (_method, _body, reply) => {
      reply.writeHead(200, { 'content-length': '100' });
      reply.write('part');
      setImmediate(() => reply.destroy());
    };
    await expect(faulty.readBlob('key', 100)).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
  });
});
