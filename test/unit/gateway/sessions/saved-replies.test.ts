/** Answers with files of saved sessions, over HTTP. */
import { randomBytes } from 'node:crypto';
import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createKilnClient } from '../../../../client/http/kiln-client.ts';
import { KilnError } from '../../../../domain/failures.ts';
import { storeKeys } from '../../../../domain/names.ts';
import { NO_SAVES, type SaveBook } from '../../../../domain/session/save-book.ts';
import {
  keptInHead,
  type SavedGateway,
  type SavedGatewayOptions,
  startSavedGateway,
} from '../../../support/gateway/saved-gateway.ts';
import { builtSave, file, folder, type NewEntry } from '../../../support/saves/built-save.ts';
import { createMemoryStore, type MemoryStore } from '../../../support/saves/memory-store.ts';
import { SESSION } from '../../../support/saves/saves-fixture.ts';

const GIB = 1024 ** 3;
const CHUNKS = Array.from({ length: 12 }, () => randomBytes(1024 * 1024));
const FILES: readonly NewEntry[] = [
  folder(''),
  file('big', CHUNKS),
  file('hole', [10 * GIB]),
  file('small', [Buffer.from('0123456789')]),
];
const PACK = storeKeys.savePack(SESSION, '1-1-0-0');

let store: MemoryStore;
let gateway: SavedGateway | undefined;
/** A store with the save of the files, which every test gets a copy of. */
const written = createMemoryStore();
beforeAll(async () => keptInHead(written, [await builtSave(written, FILES)]));
beforeEach(() => {
  store = createMemoryStore();
});
afterEach(() => gateway?.close());

async function started(options: SavedGatewayOptions = {}, entries?: Iterable<NewEntry>): Promise<SavedGateway> {
  if (entries === undefined) for (const [key, data] of written.objects) store.objects.set(key, data);
  else await keptInHead(store, [await builtSave(store, entries)]);
  gateway = await startSavedGateway(store, options);
  return gateway;
}

async function statusOf(from: SavedGateway, path: string, init: RequestInit = {}): Promise<number> {
  const reply = await from.ask(path, init);
  await reply.body?.cancel();
  return reply.status;
}

/** Begins to read, and reads no further. @returns the answer, and a function that leaves */
async function idleReader(from: SavedGateway, path: string) {
  const gone = new AbortController();
  const reply = await from.ask(path, { signal: gone.signal });
  return { reply, leave: () => gone.abort() };
}

/** Until nothing refuses a path for want of room any more. */
async function untilRoom(from: SavedGateway, path: string): Promise<void> {
  while ((await statusOf(from, path)) === 429) await turn();
}

const stored: SaveBook = { ...NO_SAVES, asked: 1, spooled: { turn: 1, n: 0 }, stored: { turn: 1, n: 0 } };
const resting = { tier: 'warm', saves: stored } as const;

describe('a file of a save', () => {
  it('has a strong entity tag: a part is of the file that the caller has a part of, or it is the whole', async () => {
    const first = await started();
    const part = await first.ask('files/small', { headers: { range: 'bytes=0-4' } });
    const etag = part.headers.get('etag') ?? '';
    expect([part.status, await part.text()]).toEqual([206, '01234']);
    expect(etag).toMatch(/^"1-1-0-[0-9a-f]{32}"$/);
    const rest = { range: 'bytes=5-9', 'if-range': etag };
    const more = await first.ask('files/small', { headers: rest });
    expect([more.status, await more.text(), more.headers.get('etag')]).toEqual([206, '56789', etag]);
    expect((await first.ask('files/small', { method: 'HEAD' })).headers.get('etag')).toBe(etag);
    expect((await first.ask('files/big', { method: 'HEAD' })).headers.get('etag')).not.toBe(etag);
    // What is written beside the runs makes another save of the same turn.
    await keptInHead(store, [
      await builtSave(store, [folder(''), file('small', [Buffer.from('abcdefghij')])], { n: 1 }),
    ]);
    const changed = await first.ask('turns/1/files/small', { headers: rest });
    expect([changed.status, await changed.text()]).toEqual([200, 'abcdefghij']);
    const dated = await first.ask('files/small', { headers: { ...rest, 'if-range': new Date(0).toUTCString() } });
    expect([dated.status, await dated.text()]).toEqual([200, 'abcdefghij']);
  });

  it('that fails before its first byte is a problem, and nothing of a file', async () => {
    const from = await started();
    const pack = store.objects.get(PACK) ?? Buffer.alloc(0);
    const whole = await from.ask('files/small');
    expect(whole.headers.get('x-kiln-turn')).toBe('1');
    await whole.text();
    store.objects.set(PACK, Buffer.from(pack).fill(0, 100, 200));
    const reply = await from.ask('files/big', { headers: { range: 'bytes=0-9' } });
    expect([reply.status, Object(await reply.json()).code]).toEqual([500, 'SESSION_CORRUPT']);
    const names = [...reply.headers.keys()];
    expect(names.filter((name) => name.startsWith('x-kiln-'))).toEqual([]);
    for (const name of ['content-range', 'accept-ranges', 'etag']) expect(names).not.toContain(name);
    const behind = await from.ask('files/small', { headers: { range: 'bytes=10-' } });
    expect([behind.status, behind.headers.get('content-range')]).toEqual([416, 'bytes */10']);
  });

  it('that fails in the middle is told in the log; a reader who leaves is not', async () => {
    const from = await started();
    const { reply, leave } = await idleReader(from, 'files/hole');
    expect(reply.status).toBe(200);
    leave();
    await expect(reply.arrayBuffer()).rejects.toThrow();
    await untilRoom(from, 'files/small');
    expect(from.logged).toEqual([]);
    const pack = store.objects.get(PACK) ?? Buffer.alloc(0);
    store.objects.set(PACK, Buffer.from(pack).fill(0, 10.5 * 1024 * 1024, 11 * 1024 * 1024));
    const broken = await from.ask('files/big');
    expect(broken.status).toBe(200);
    await expect(broken.arrayBuffer()).rejects.toThrow();
    expect(from.logged).toEqual(['an answer broke off']);
  });
});

describe('transfers', () => {
  it.each(['files/hole', 'turns/1.tar'])('%s: one too many is refused; readers who leave make room', async (path) => {
    const from = await started({ limits: { maxFileTransfers: 1 } });
    const { leave } = await idleReader(from, path);
    const refused = await from.ask('files/small');
    expect([refused.status, Object(await refused.json()).code]).toEqual([429, 'QUEUE_FULL']);
    const tar = await from.ask('turns/1.tar');
    expect([tar.status, tar.headers.get('content-disposition')]).toEqual([429, null]);
    // What is only looked at does not wait for transfers.
    expect(await statusOf(from, 'files/small', { method: 'HEAD' })).toBe(200);
    expect(await statusOf(from, 'files')).toBe(200);
    leave();
    await untilRoom(from, 'files/small');
  });

  it('that nobody reads are ended', async () => {
    const from = await started({ limits: { maxFileTransfers: 1, slowFileReaderMs: 50 } });
    const { reply } = await idleReader(from, 'files/hole');
    await untilRoom(from, 'files/small');
    await expect(reply.arrayBuffer()).rejects.toThrow();
  });
});

describe('looks', () => {
  const many = [folder(''), ...Array.from({ length: 3000 }, (_, n) => file(`f${String(n).padStart(5, '0')}`))];

  it('that read too much are refused', async () => {
    const from = await started({ limits: { maxLookReads: 3, savedTreesBytes: 1 } }, many);
    const reply = await from.ask('files');
    expect([reply.status, Object(await reply.json()).code]).toEqual([422, 'INSPECTION_LIMIT']);
    expect(from.logged).toEqual([]);
  });

  it('are counted, and read no more once their callers have left', async () => {
    const from = await started({ limits: { maxFileLooks: 1 } }, many);
    const real = store.readPart;
    const signals: (AbortSignal | undefined)[] = [];
    let reached = () => {};
    const first = new Promise<void>((resolve) => {
      reached = resolve;
    });
    // The store gives no answer until the call is broken off.
    Object.assign(store, {
      readPart: (_key: string, _part: object, signal?: AbortSignal) =>
        new Promise((_, reject) => {
          signals.push(signal);
          signal?.addEventListener('abort', () => reject(new KilnError('STORE_UNAVAILABLE', 'broken off')));
          reached();
        }),
    });
    const gone = new AbortController();
    const look = from.ask('files', { signal: gone.signal });
    await first;
    expect(await statusOf(from, 'files/f00001', { method: 'HEAD' })).toBe(429);
    for (const path of ['turns', 'turns/1', 'turns/1/files', 'files']) expect(await statusOf(from, path)).toBe(429);
    gone.abort();
    await expect(look).rejects.toThrow();
    Object.assign(store, { readPart: real });
    while ((await statusOf(from, 'files/f00001', { method: 'HEAD' })) === 429) await turn();
    expect(signals.map((signal) => signal?.aborted)).toEqual([true]);
    expect(from.logged).toEqual([]);
  });
});

describe('a turn', () => {
  it('as a tar answers HEAD, with a name for the file', async () => {
    const from = await started();
    const head = await from.ask('turns/1.tar', { method: 'HEAD' });
    expect([head.status, head.headers.get('content-type')]).toEqual([200, 'application/x-tar']);
    expect(head.headers.get('content-disposition')).toBe('attachment; filename="thread-1-1.tar"');
    const missing = await from.ask('turns/2.tar', { method: 'HEAD' });
    expect([missing.status, missing.headers.get('content-disposition')]).toEqual([404, null]);
  });

  it.each(['0x1', '1e0', '%20', '+1', '1.0', '1234567890', '-1'])('has no number %s', async (number) => {
    expect(await statusOf(await started(), `turns/${number}`)).toBe(400);
  });
});

describe('a session that was deleted', () => {
  const end = { as: 'deleted', at: '2026-01-01T00:00:00.000Z', cause: 'DELETE_ASKED', lastTurn: 1 } as const;

  it('shows nothing of what is not removed yet', async () => {
    const from = await started({ end });
    const reads: string[] = [];
    store.onCall = ({ method }) => void reads.push(method);
    expect(await statusOf(from, 'files/small')).toBe(501);
    expect(await statusOf(from, 'files')).toBe(501);
    // A hold says how it ended: 410.
    expect(from.vmsAsked()).toBe(2);
    expect(await (await from.ask('turns')).json()).toEqual({ items: [] });
    for (const path of ['turns/1', 'turns/1/files', 'turns/1/files/small', 'turns/1.tar']) {
      expect(await statusOf(from, path)).toBe(404);
    }
    expect(reads).toEqual([]);
  });

  it('unlike one that was closed', async () => {
    const from = await started({ end: { ...end, as: 'closed' } });
    expect(await statusOf(from, 'files/small')).toBe(200);
    expect(from.vmsAsked()).toBe(0);
  });
});

describe('a save that cannot be read', () => {
  const away = () => Promise.reject(new KilnError('STORE_UNAVAILABLE', 'the store is away'));
  const damages: [string, () => void, number][] = [
    [
      'a store that is away',
      () => void Object.assign(store, { readDocument: away, readBlob: away, readPart: away }),
      503,
    ],
    ['a store that loses its tree', () => void store.objects.delete(storeKeys.saveTree(SESSION, '1-1-0')), 500],
    ['a store that loses its packs', () => void store.objects.delete(PACK), 500],
    ['a head that is damaged', () => void store.objects.set(storeKeys.saveHead(SESSION), Buffer.from('{}')), 500],
  ];

  it.each(damages)('%s: a VM that rests is asked', async (_, damage) => {
    const from = await started({ state: resting });
    expect(await statusOf(from, 'files/small')).toBe(200);
    expect(from.vmsAsked()).toBe(0);
    await gateway?.close();
    const again = await startSavedGateway(store, { state: resting });
    gateway = again;
    damage();
    expect(await statusOf(again, 'files')).toBe(501);
    expect(await statusOf(again, 'files/small')).toBe(501);
    expect(await statusOf(again, 'files/small', { method: 'HEAD' })).toBe(501);
    expect(again.vmsAsked()).toBe(3);
    expect(again.logged).toHaveLength(3);
  });

  it.each(damages)('%s: without a VM, that is the answer', async (_, damage, status) => {
    const from = await started({ state: { ...resting, tier: 'cold' } });
    damage();
    expect(await statusOf(from, 'files/small')).toBe(status);
    expect(from.vmsAsked()).toBe(0);
  });
});

describe('the typed client', () => {
  const clientOf = ({ base, token }: SavedGateway, more: { readonly fetch?: typeof fetch } = {}) =>
    createKilnClient({ apiUrl: base, token, ...more });
  const small = { thread: SESSION.thread, path: 'small' };

  it.each([
    [{ from: 5, to: 7 }, '56'],
    [{ from: 5, to: Number.POSITIVE_INFINITY }, '56789'],
    [{ from: 5, to: Number.MAX_SAFE_INTEGER }, '56789'],
    [{ from: 5, to: 2 ** 60 }, '56789'],
    [{ from: 5 }, '56789'],
  ])('reads the part %o', async (range, expected) => {
    const content = await clientOf(await started()).getSessionFile(small, { range });
    expect(await new Response(content).text()).toBe(expected);
  });

  it.each([
    { from: 5.5 },
    { from: -3 },
    { from: Number.NaN },
    { from: Number.POSITIVE_INFINITY },
    { from: 1, to: -1 },
    { from: 1, to: 2.5 },
    { from: 1, to: Number.NaN },
  ])('asks for no part that is none: %o', async (range) => {
    let calls = 0;
    const counting: typeof fetch = (...request) => {
      calls += 1;
      return fetch(...request);
    };
    const read = clientOf(await started(), { fetch: counting }).getSessionFile(small, { range });
    await expect(read).rejects.toMatchObject({ code: 'SPEC_INVALID' });
    expect(calls).toBe(0);
  });

  it('takes no whole file for a part', async () => {
    const whole: typeof fetch = async () => new Response('0123456789', { status: 200 });
    const read = clientOf(await started(), { fetch: whole }).getSessionFile(small, { range: { from: 5 } });
    await expect(read).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });
});
