import { describe, expect, it } from 'vitest';
import type { AgentChannel, RestoreRecord, SaveRecord } from '../../../../../ports/guest-agent.ts';
import { FRAME } from '../../../../../vmm/agent/frames.ts';
import { encodeRecord, RECORD, RecordReader, type RecordType } from '../../../../../vmm/agent/workspace/records.ts';
import { attached, type ScriptedGuest } from '../../../../support/guest/scripted-guest.ts';

const FEATURES = ['workspace-save'];
const REQUEST = { path: '/workspace', saveId: '1-1-0', saltHex: 'ab'.repeat(32) };
const SUMMARY = JSON.stringify({
  ...{
    entries: 2,
    files: 1,
    bytes: 3,
    readFiles: 1,
    readBytes: 3,
    sentChunks: 1,
    sentBytes: 3,
    skipped: 0,
    changed: 0,
  },
  ...{ scanMs: 1, totalMs: 2 },
});
const ID = 'c'.repeat(64);
const base64 = (text: string) => Buffer.from(text, 'latin1').toString('base64');
const owned = { uid: 0, gid: 7, mtimeNs: '-1' };
/** In the year 2446, the last of ext4: more than 64 bits hold. */
const LATE = '15032385535999999999';
const ROOT = { path: '', type: 'folder', mode: 0o755, ...owned };
const FILE = { path: base64('a\xff\n'), type: 'file', mode: 0o4755, ...owned, size: 3, chunks: [[ID, 3]] };

const json = (value: unknown) => Buffer.from(JSON.stringify(value));
const record = (type: RecordType, payload: Buffer | string = '') => encodeRecord(type, Buffer.from(payload));
const raw = (type: number, length: number, payload = '') =>
  Buffer.concat([Buffer.from([type, ...u32(length)]), Buffer.from(payload)]);
const u32 = (value: number) => [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
const entry = (value: unknown) => record(RECORD.entry, json(value));

/** @returns what a host gets where a guest answers a save with these bytes, a few at a time */
async function saved(bytes: Buffer, { delta = false, step = 7, answer = SUMMARY, base = 'none' } = {}) {
  const { guest, agent } = await attached(60_000, FEATURES);
  const reading = collect(agent.saveWorkspace({ ...REQUEST, ...(base === 'none' ? {} : { baseSaveId: base }) }));
  reading.catch(() => undefined);
  const { payload } = await guest.receive(FRAME.open);
  guest.send(FRAME.opened, 1, JSON.stringify({ delta }));
  for (let at = 0; at < bytes.length; at += step) guest.send(FRAME.data, 1, bytes.subarray(at, at + step));
  guest.send(FRAME.done, 1, answer);
  return { request: JSON.parse(payload.toString()), records: await reading, agent };
}

async function collect(records: AsyncIterable<SaveRecord>): Promise<SaveRecord[]> {
  const all: SaveRecord[] = [];
  for await (const each of records) all.push(each);
  return all;
}

const WHOLE = [entry(ROOT), record(RECORD.chunk, 'abc'), entry(FILE), record(RECORD.finish)];

describe('a save', () => {
  it.each([1, 5, 1000])('comes as records, however it is cut (%i bytes at a time)', async (step) => {
    const skipped = record(RECORD.skipped, json({ path: base64('p'), type: 'pipe' }));
    const bytes = Buffer.concat([record(RECORD.progress), ...WHOLE.slice(0, 3), skipped, ...WHOLE.slice(3)]);
    const { request, records } = await saved(bytes, { step });
    expect(request).toEqual({ kind: 'save', ...REQUEST });
    expect(records).toEqual([
      { kind: 'opened', delta: false },
      { kind: 'entry', entry: ROOT },
      { kind: 'chunk', data: Buffer.from('abc') },
      { kind: 'entry', entry: { ...FILE, path: 'a\xff\n', chunks: [{ id: ID, bytes: 3 }] } },
      { kind: 'skipped', skipped: { path: 'p', type: 'pipe' } },
      { kind: 'done', summary: JSON.parse(SUMMARY) },
    ]);
  });

  it('knows the times of the far future', async () => {
    const late = entry({ ...ROOT, mtimeNs: LATE });
    const { records } = await saved(Buffer.concat([late, record(RECORD.finish)]));
    expect(records).toContainEqual({ kind: 'entry', entry: { ...ROOT, mtimeNs: LATE } });
  });

  it('tells removed paths where it is a difference', async () => {
    const bytes = Buffer.concat([record(RECORD.removed, 'gone'), record(RECORD.finish)]);
    const { request, records } = await saved(bytes, { delta: true, base: '1-0-0' });
    expect(request).toMatchObject({ baseSaveId: '1-0-0' });
    expect(records.slice(0, 2)).toEqual([
      { kind: 'opened', delta: true },
      { kind: 'removed', path: 'gone' },
    ]);
  });

  const file = (change: object) => entry({ ...FILE, ...change });
  it.each<[string, Buffer[]]>([
    ['no end', [entry(ROOT)]],
    ['nothing at all', []],
    ['half a record', [Buffer.concat(WHOLE).subarray(0, 20)]],
    ['something after its end', [...WHOLE, record(RECORD.progress)]],
    ['an unknown record', [raw(7, 0)]],
    ['a record that is too long', [raw(RECORD.chunk, 1024 * 1024 + 1)]],
    ['a chunk without bytes', [raw(RECORD.chunk, 0)]],
    ['an entry that is no JSON', [record(RECORD.entry, '{x')]],
    ['a removed path where everything comes', [record(RECORD.removed, 'a'), record(RECORD.finish)]],
    ['a path that leaves', [file({ path: base64('../a') })]],
    ['an absolute path', [file({ path: base64('/a') })]],
    ['a path with a zero byte', [file({ path: base64('a\0b') })]],
    ['an empty part of a path', [file({ path: base64('a//b') })]],
    ['a name of 256 bytes', [file({ path: base64('a'.repeat(256)) })]],
    ['a path that is no base64', [file({ path: 'a.b' })]],
    ['a type that is none', [file({ type: 'device' })]],
    ['a negative size', [file({ size: -1 })]],
    ['an owner beyond all', [file({ uid: 2 ** 32 })]],
    ['a mode beyond all', [file({ mode: 0o10000 })]],
    ['a time that is none', [file({ mtimeNs: '1e9' })]],
    ['an id of a chunk that is none', [file({ chunks: [['../x', 3]] })]],
    ['a chunk that is too large', [file({ chunks: [[ID, 1024 * 1024 + 1]] })]],
    ['an attribute that is not kept', [file({ xattrs: { 'trusted.x': '' } })]],
    ['a link to nothing', [entry({ path: base64('l'), type: 'symlink', ...owned, target: '' })]],
    ['a hard link to the outside', [entry({ path: base64('l'), type: 'hardlink', target: base64('../x') })]],
    ['a skipped path of no kind', [record(RECORD.skipped, json({ path: '', type: 'file' }))]],
  ])('with %s is refused', async (_what, bytes) => {
    await expect(saved(Buffer.concat(bytes))).rejects.toMatchObject({ code: 'AGENT_PROTOCOL' });
  });

  it('with a summary of the wrong shape is refused', async () => {
    await expect(saved(Buffer.concat(WHOLE), { answer: '{"entries":-1}' })).rejects.toMatchObject({
      code: 'AGENT_PROTOCOL',
    });
  });

  it('ends with the refusal of the guest, and with one that stands still', async () => {
    const { guest, agent } = await attached(60_000, FEATURES);
    const reading = collect(agent.saveWorkspace(REQUEST));
    await guest.receive(FRAME.open);
    guest.send(FRAME.reset, 1, '{"code":"CONFLICT","message":"another one"}');
    await expect(reading).rejects.toMatchObject({ code: 'CONFLICT' });

    const still = await attached(20, FEATURES);
    await expect(collect(still.agent.saveWorkspace(REQUEST))).rejects.toMatchObject({ code: 'AGENT_TIMEOUT' });
    expect(await still.guest.receive(FRAME.reset)).toBeDefined();
  });

  it('that nobody wants any more is ended in the guest', async () => {
    const { guest, agent } = await attached(60_000, FEATURES);
    const reading = (async () => {
      for await (const _ of agent.saveWorkspace(REQUEST)) return;
    })();
    await guest.receive(FRAME.open);
    guest.send(FRAME.opened, 1, '{"delta":false}');
    guest.send(FRAME.data, 1, entry(ROOT));
    await reading;
    expect(await guest.receive(FRAME.reset)).toBeDefined();
  });

  it('that is given up while the guest is silent is ended in it at once', async () => {
    const { guest, agent } = await attached(60_000, FEATURES);
    const records = agent.saveWorkspace(REQUEST)[Symbol.asyncIterator]();
    const first = records.next();
    await guest.receive(FRAME.open);
    guest.send(FRAME.opened, 1, '{"delta":false}');
    guest.send(FRAME.data, 1, entry(ROOT));
    await first;
    const [, waiting] = [await records.next(), records.next()];
    waiting.catch(() => undefined);
    await records.return?.();
    expect(await guest.receive(FRAME.reset)).toBeDefined();
    await expect(waiting).rejects.toThrow();
  });

  it('is asked only of an agent that can', async () => {
    const { agent } = await attached(60_000);
    expect(() => agent.saveWorkspace(REQUEST)).toThrow(expect.objectContaining({ code: 'UNSUPPORTED' }));
    await expect(agent.restoreWorkspace(REQUEST, source([]))).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });
});

async function* source(records: readonly RestoreRecord[]): AsyncGenerator<RestoreRecord> {
  yield* records;
}

const SENT: readonly RestoreRecord[] = [
  { kind: 'entry', entry: { type: 'folder', path: '', mode: 0o755, ...owned } },
  {
    kind: 'entry',
    entry: {
      type: 'file',
      path: 'a\xff',
      mode: 0,
      ...owned,
      size: 3,
      chunks: [{ id: ID, bytes: 3 }],
      xattrs: { 'user.b': 'eA==', 'user.a': '' },
    },
  },
  { kind: 'chunk', data: Buffer.from('abc') },
  { kind: 'entry', entry: { type: 'hardlink', path: 'b', target: 'a\xff' } },
  { kind: 'entry', entry: { type: 'symlink', path: 'c', ...owned, target: '/x\xfe' } },
];

/** @returns the records that the guest got, once the host has ended its side */
async function received(guest: ScriptedGuest) {
  await guest.receive(FRAME.end);
  const reader = new RecordReader();
  return guest.received
    .filter(({ type }) => type === FRAME.data)
    .flatMap(({ payload }) => [...reader.push(payload)])
    .map(({ type, payload }) => (type === RECORD.entry ? JSON.parse(payload.toString()) : [type, payload.toString()]));
}

async function restoring(records: AsyncIterable<RestoreRecord>, requestMs = 60_000) {
  const { guest, agent } = await attached(requestMs, FEATURES);
  const answer = agent.restoreWorkspace(REQUEST, records);
  answer.catch(() => undefined);
  await guest.receive(FRAME.open);
  return { guest, agent, answer } satisfies { guest: ScriptedGuest; agent: AgentChannel; answer: Promise<unknown> };
}

describe('a restore', () => {
  it('sends entries, each file followed by its chunks, and an end', async () => {
    const { guest, answer } = await restoring(source(SENT));
    expect(await received(guest)).toEqual([
      ROOT,
      { ...FILE, path: base64('a\xff'), mode: 0, xattrs: { 'user.a': '', 'user.b': 'eA==' } },
      [RECORD.chunk, 'abc'],
      { path: base64('b'), type: 'hardlink', target: base64('a\xff') },
      { path: base64('c'), type: 'symlink', ...owned, target: base64('/x\xfe') },
      [RECORD.finish, ''],
    ]);
    // Signs of life while the guest writes to its disk.
    guest.send(FRAME.data, 1, record(RECORD.progress));
    guest.send(FRAME.done, 1, '{"entries":4,"bytes":3}');
    expect(await answer).toEqual({ entries: 4, bytes: 3 });
  });

  it('ends with the refusal of the guest, though more was to be sent', async () => {
    const endless = async function* (): AsyncGenerator<RestoreRecord> {
      for (;;) yield { kind: 'chunk', data: Buffer.alloc(100_000) };
    };
    const { guest, answer } = await restoring(endless());
    guest.send(FRAME.reset, 1, '{"code":"DISK_FULL","message":"no room"}');
    await expect(answer).rejects.toMatchObject({ code: 'DISK_FULL' });
  });

  it('ends with the error of its source, and says so to the guest', async () => {
    const failing = async function* (): AsyncGenerator<RestoreRecord> {
      yield* SENT.slice(0, 1);
      throw new Error('the pack is damaged');
    };
    const { guest, answer } = await restoring(failing());
    await expect(answer).rejects.toThrow('the pack is damaged');
    expect(await guest.receive(FRAME.reset)).toBeDefined();
    expect(guest.received.some(({ type }) => type === FRAME.end)).toBe(false);
  });

  it('gives up a guest that stands still', async () => {
    const { answer } = await restoring(source(SENT), 20);
    await expect(answer).rejects.toMatchObject({ code: 'AGENT_TIMEOUT' });
  });
});
