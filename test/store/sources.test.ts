/** Uploads over real HTTP into the real store: some are accepted, others refused, and a refusal leaves nothing. */

import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readlink, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { type Header, pack } from 'tar-stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { problemSchema } from '../../contracts/api/problem.ts';
import { uploadedSourceSchema } from '../../contracts/api/source.ts';
import { defined } from '../../domain/defined.ts';
import { storeKeys } from '../../domain/names.ts';
import { authorized, type GatewayFixture, newId, post, startGateway } from '../support/gateway/gateway-fixture.ts';

const LIMITS = { maxBytes: 200_000, maxTarBytes: 400_000, maxEntries: 50, drainMs: 1_000 };

let fixture: GatewayFixture;
let uploadDir: string;
beforeAll(async () => {
  uploadDir = await mkdtemp(join(tmpdir(), 'kiln-uploads-'));
  fixture = await startGateway({ uploadDir, limits: { sources: LIMITS, maxUploads: 2 } });
});
afterAll(async () => {
  await fixture.close();
  expect(await readdir(uploadDir)).toEqual([]);
  await rm(uploadDir, { recursive: true });
});

type Part = Partial<Header> & { name: string; content?: string | Buffer };

async function tarOf(...parts: Part[]): Promise<Buffer<ArrayBuffer>> {
  const tar = pack();
  for (const { content, ...header } of parts) {
    if (content === undefined) tar.entry(header);
    else tar.entry(header, content);
  }
  tar.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of tar) if (Buffer.isBuffer(chunk)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

const file = (name: string, content = 'x'): Part => ({ name, content });
const sha256 = (data: Buffer) => createHash('sha256').update(data).digest('hex');
const upload = (
  body: string | Buffer<ArrayBuffer>,
  { query = '', type = 'application/x-tar', signal }: UploadRequest = {},
) =>
  fetch(`${fixture.base}/api/sources${query}`, {
    method: 'POST',
    headers: { ...authorized, 'content-type': type },
    body,
    duplex: 'half',
    ...defined({ signal }),
  });
interface UploadRequest {
  readonly query?: string;
  readonly type?: string;
  readonly signal?: AbortSignal;
}

async function refusal(reply: Response) {
  expect(reply.headers.get('content-type')).toBe('application/problem+json');
  const { status, code, detail } = problemSchema.parse(await reply.json());
  expect(status).toBe(reply.status);
  return { status, code, detail };
}

describe('an upload', () => {
  it('is stored once by its digest, whoever sends it how often and in whatever form', async () => {
    const tar = await tarOf({ name: './', type: 'directory' }, file('./a.js', 'one'), file('deep/er/b.js', 'two'), {
      name: 'deep/link',
      type: 'symlink',
      linkname: '../a.js',
    });
    const expected = { sha256: sha256(tar), bytes: tar.length, files: 3 };
    expect((await fetch(`${fixture.base}/api/sources/${expected.sha256}`, { headers: authorized })).status).toBe(404);
    const first = await upload(tar, { query: `?sha256=${expected.sha256}` });
    expect(first.status).toBe(201);
    expect(uploadedSourceSchema.parse(await first.json())).toEqual(expected);
    const again = await upload(gzipSync(tar), { type: 'application/gzip' });
    expect(again.status).toBe(200);
    expect(await again.json()).toEqual(expected);
    expect(await fixture.api.getSource({ params: { sha256: expected.sha256 } })).toEqual(expected);
    expect(await fixture.api.uploadSource(new Blob([tar]), { sha256: expected.sha256 })).toEqual(expected);
    const head = await fetch(`${fixture.base}/api/sources/${expected.sha256}`, {
      method: 'HEAD',
      headers: authorized,
    });
    expect(head.status).toBe(200);
    expect(await fixture.store.readBlob(storeKeys.sourceTar(expected.sha256), 1_000_000)).toEqual(tar);
  });

  it('twice at once is the same sources', async () => {
    const tar = await tarOf(file('a', 'at once'));
    const replies = await Promise.all([upload(tar), upload(tar)]);
    for (const reply of replies) expect(await reply.json()).toMatchObject({ sha256: sha256(tar) });
    expect(replies.map(({ status }) => status).filter((status) => status === 201).length).toBeGreaterThanOrEqual(1);
  });
});

describe('refused, and nothing is stored', () => {
  const link = (name: string, linkname: string): Part => ({ name, type: 'symlink', linkname });
  it.each<readonly [string, Part[], string]>([
    ['an absolute path', [file('/etc/passwd')], 'is absolute'],
    ['a path that climbs', [file('a/../../b')], 'contains ".."'],
    ['a link to an absolute path', [file('a'), link('l', '/etc/passwd')], 'absolute'],
    ['a link that leaves', [file('a'), link('d/l', '../../x')], 'leads out'],
    ['a link that climbs after another', [file('a'), link('d', '.'), link('l', 'd/../x')], '".."'],
    ['a file below a link', [link('d', 'e'), file('d/x')], 'no folder'],
    ['a file below a file', [file('d'), file('d/x')], 'no folder'],
    ['a file in place of a folder', [file('d/x'), file('d')], 'twice'],
    ['one path twice', [file('a'), file('./a')], 'twice'],
    ['one folder twice', [{ name: 'd/', type: 'directory' }, { name: 'd', type: 'directory' }, file('a')], 'twice'],
    ['a hard link', [file('a'), { name: 'h', type: 'link', linkname: 'a' }], 'hard link'],
    ['a device', [{ name: 'null', type: 'character-device', devmajor: 1, devminor: 3 }], 'character-device'],
    ['a pipe', [{ name: 'p', type: 'fifo' }], 'fifo'],
    ['a control character', [file('a\nb')], 'control characters'],
    ['a long path', [file(`${'a/'.repeat(600)}b`)], 'longer than'],
    ['a long name', [file('a'.repeat(256))], 'longer than'],
    ['no file at all', [{ name: 'd/', type: 'directory' }], 'holds no file'],
  ])('%s', async (_what, parts, words) => {
    const tar = await tarOf(...parts);
    const found = await refusal(await upload(tar));
    expect(found).toMatchObject({ status: 400, code: 'SPEC_INVALID' });
    expect(found.detail).toContain(words);
    expect((await fetch(`${fixture.base}/api/sources/${sha256(tar)}`, { headers: authorized })).status).toBe(404);
  });

  it('a NUL in a name of a pax header', async () => {
    const tar = await tarOf({ name: 'a', content: 'x', pax: { path: 'a\0b' } });
    expect(await refusal(await upload(tar))).toMatchObject({ status: 400, code: 'SPEC_INVALID' });
  });

  it('too much: bytes sent, bytes unpacked, entries', async () => {
    const tooLong = upload(await tarOf(file('a', 'x'.repeat(LIMITS.maxBytes))));
    expect(await refusal(await tooLong)).toMatchObject({ status: 413, code: 'PAYLOAD_TOO_LARGE' });
    const bomb = gzipSync(await tarOf(file('a', 'x'.repeat(LIMITS.maxTarBytes))));
    expect(bomb.length).toBeLessThan(LIMITS.maxBytes / 10);
    const unpacked = await upload(bomb, { type: 'application/gzip' });
    expect(await refusal(unpacked)).toMatchObject({ status: 413, code: 'PAYLOAD_TOO_LARGE' });
    const implied = await tarOf(...Array.from({ length: 26 }, (_, n) => file(`d${n}/f`)));
    expect(await refusal(await upload(implied))).toMatchObject({ status: 413, code: 'PAYLOAD_TOO_LARGE' });
  });

  it('what is no tar, half a tar, no gzip, half a gzip, nothing', async () => {
    const tar = await tarOf(file('a', 'x'.repeat(5_000)));
    const gzip = { type: 'application/gzip' };
    for (const reply of [
      await upload('no tar'),
      await upload(Buffer.alloc(1024, 1)),
      await upload(tar.subarray(0, 2_000)),
      await upload(tar.subarray(0, tar.length - 1024)),
      await upload(tar, gzip),
      await upload(gzipSync(tar).subarray(0, 40), gzip),
      await upload(''),
    ]) {
      expect(await refusal(reply)).toMatchObject({ status: 400, code: 'SPEC_INVALID' });
    }
  });

  it('another digest than the one named, another type, no token', async () => {
    const tar = await tarOf(file('a', 'digest'));
    const other = await upload(tar, { query: `?sha256=${'0'.repeat(64)}` });
    expect((await refusal(other)).detail).toContain(sha256(tar));
    expect((await fetch(`${fixture.base}/api/sources/${sha256(tar)}`, { headers: authorized })).status).toBe(404);
    expect((await upload(tar, { query: '?sha256=abc' })).status).toBe(400);
    expect(await refusal(await upload('{}', { type: 'application/json' }))).toMatchObject({ status: 415 });
    expect(await refusal(await upload(tar, { type: 'text/plain' }))).toMatchObject({ status: 415 });
    const elsewhere = await fetch(`${fixture.base}/api/workloads`, {
      method: 'POST',
      headers: { ...authorized, 'content-type': 'application/x-tar' },
      body: tar,
    });
    expect(await refusal(elsewhere)).toMatchObject({ status: 415, code: 'UNSUPPORTED' });
    const nobody = await fetch(`${fixture.base}/api/sources`, { method: 'POST', body: tar });
    expect(await refusal(nobody)).toMatchObject({ status: 401 });
  });
});

/** A client that sends the head of an upload and part of its body, and then nothing more. */
async function hangingUpload(part: Buffer): Promise<{ gone(): void }> {
  const { hostname, port } = new URL(fixture.base);
  const socket = connect(Number(port), hostname);
  socket.on('error', () => undefined);
  const head = [
    'POST /api/sources HTTP/1.1',
    `host: ${hostname}`,
    `authorization: ${authorized.authorization}`,
    'content-type: application/x-tar',
    'content-length: 100000',
  ].join('\r\n');
  await new Promise<void>((sent) => socket.write(Buffer.concat([Buffer.from(`${head}\r\n\r\n`), part]), () => sent()));
  return { gone: () => socket.destroy() };
}

/** Number of uploads that this process is receiving: each holds an open file that has already been unlinked. */
async function uploadsBeingReceived(): Promise<number> {
  const descriptors = await readdir('/proc/self/fd');
  const targets = await Promise.all(descriptors.map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => '')));
  return targets.filter((target) => target.startsWith(join(uploadDir, 'kiln-upload-'))).length;
}

describe('uploads at a time', () => {
  it('are bounded; one whose client goes away leaves no file and frees its place', async () => {
    const tar = await tarOf(file('a', 'in time'));
    const hanging = [await hangingUpload(tar.subarray(0, 600)), await hangingUpload(tar.subarray(0, 100))];
    // Wait for both first: another upload could take the place that was meant for the second of them.
    await expect.poll(uploadsBeingReceived).toBe(hanging.length);
    expect(await refusal(await upload(tar))).toMatchObject({ code: 'QUEUE_FULL' });
    expect(await readdir(uploadDir)).toEqual([]);
    for (const client of hanging) client.gone();
    await expect.poll(uploadsBeingReceived).toBe(0);
    await expect.poll(async () => (await upload(tar)).status).toBeLessThan(300);
    expect(await readdir(uploadDir)).toEqual([]);
  });
});

describe('a workload of uploaded sources', () => {
  it('is refused at once where they are not stored, and not where it is a repetition', async () => {
    const missing = { sha256: 'a'.repeat(64) };
    const id = newId();
    const create = (body: object) => fetch(`${fixture.base}/api/workloads`, post(body));
    const found = await refusal(await create({ id, source: missing }));
    expect(found).toMatchObject({ status: 400, code: 'SERVICE_NOT_FOUND' });
    expect(found.detail).toContain('kiln deploy');
    await fixture.workloads.create({ servicePath: '.', source: missing }, id);
    expect((await create({ id, source: missing })).status).toBe(200);
  });

  it('is created with the folder in them, by default their root', async () => {
    const tar = await tarOf(file('package.json', '{}'));
    await upload(tar);
    const source = { sha256: sha256(tar) };
    const created = await fixture.api.createWorkload({ body: { id: newId(), source } });
    expect(created.servicePath).toBe('.');
    const below = await fixture.api.createWorkload({ body: { id: newId(), source, servicePath: 'api' } });
    expect(below.servicePath).toBe('api');
    expect((await fetch(`${fixture.base}/api/workloads`, post({ source: { sha256: 'x' } }))).status).toBe(400);
  });
});
