import { appendFile, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ownerLogEntrySchema, parseLogLine } from '../../../../contracts/store/workload-documents.ts';
import { KilnError } from '../../../../domain/failures.ts';
import { type LogSpool, type LogSpoolLimits, openLogSpool } from '../../../../host/logs/spool.ts';

const LIMITS: LogSpoolLimits = {
  partBytes: 100_000,
  maxUnshippedBytes: 1_000_000,
  keepShippedBytes: 1_000_000,
  flushMs: 60_000,
};
let directory: string;
let now = 0;

beforeEach(async () => {
  directory = join(await mkdtemp(join(tmpdir(), 'kl-')), 'w', '0');
  now = Date.parse('2026-01-01T00:00:00Z');
});
afterEach(() => rm(join(directory, '..', '..'), { recursive: true, force: true }));

const open = (limits: Partial<LogSpoolLimits> = {}): Promise<LogSpool> =>
  openLogSpool({ ...LIMITS, ...limits, directory, epoch: 0, writer: 'h1', now: () => now });
const messages = async (spool: LogSpool, after = -1, limit = 1000) =>
  (await spool.read(after, limit)).map(({ n, message }) => `${n} ${message}`);
const write = async (spool: LogSpool, ...lines: string[]) => {
  for (const line of lines) spool.write('running', 'info', line);
  await spool.flush();
};

/** A store in memory: bytes by first number. Fails if a key is written again with other bytes. */
function storeOf(): { chunks: Map<number, string>; ship: (part: { first: number; path: string }) => Promise<void> } {
  const chunks = new Map<number, string>();
  return {
    chunks,
    async ship({ first, path }) {
      const bytes = await readFile(path, 'utf8');
      expect(chunks.get(first) ?? bytes).toBe(bytes);
      chunks.set(first, bytes);
    },
  };
}
const shipped = (chunks: Map<number, string>) =>
  [...chunks.keys()]
    .sort((a, b) => a - b)
    .flatMap((first) => (chunks.get(first) ?? '').trimEnd().split('\n'))
    .map((line) => parseLogLine(line, ownerLogEntrySchema)?.n);

describe('log spool', () => {
  it('shows only what is safe on disk', async () => {
    const spool = await open();
    spool.write('build', 'warn', 'one\ntwo');
    expect(await messages(spool)).toEqual([]);
    await spool.flush();
    expect(await spool.read(-1, 10)).toEqual([
      {
        timestamp: '2026-01-01T00:00:00.000Z',
        stage: 'build',
        message: 'one',
        level: 'warn',
        epoch: 0,
        writer: 'h1',
        n: 0,
      },
      {
        timestamp: '2026-01-01T00:00:00.000Z',
        stage: 'build',
        message: 'two',
        level: 'warn',
        epoch: 0,
        writer: 'h1',
        n: 1,
      },
    ]);
  });

  it('numbers go on after a restart, wherever it struck', async () => {
    await write(await open(), 'a', 'b');
    const second = await open();
    await write(second, 'c');
    const store = storeOf();
    await second.ship(store.ship);
    const third = await open({ keepShippedBytes: 0 });
    await write(third, 'd');
    await third.ship(store.ship);
    expect((await readdir(directory)).filter((name) => name.endsWith('.jsonl'))).toEqual([]);
    const fourth = await open();
    await write(fourth, 'e');
    expect(await messages(fourth)).toEqual(['4 e']);
    await fourth.ship(store.ship);
    expect(shipped(store.chunks)).toEqual([0, 1, 2, 3, 4]);
  });

  it('heals a torn last line and uses its number again', async () => {
    await write(await open(), 'a', 'b');
    const [part = ''] = await readdir(directory);
    await appendFile(join(directory, part), '{"timestamp":"2026-01-01T00:00:00.000Z","stage":"runn');
    const healed = await open();
    await write(healed, 'c');
    expect(await messages(healed)).toEqual(['0 a', '1 b', '2 c']);
    const again = await open();
    expect(await messages(again)).toEqual(['0 a', '1 b', '2 c']);
  });

  it('keeps all or none of what was appended together, wherever a crash has torn it', async () => {
    const spool = await open();
    spool.write('running', 'info', 'a', 10);
    await spool.flush();
    for (const [index, line] of ['b', 'c', 'd'].entries()) {
      spool.write('running', 'info', line, index === 2 ? 40 : undefined);
    }
    await spool.flush();
    const [part = ''] = await readdir(directory);
    const whole = await readFile(join(directory, part));
    const firstEnd = whole.indexOf('\n') + 1;
    for (let bytes = firstEnd; bytes < whole.length; bytes++) {
      await writeFile(join(directory, part), whole.subarray(0, bytes));
      const healed = await open();
      expect(await messages(healed)).toEqual(['0 a']);
      expect(healed.sourceOffset).toBe(10);
    }
  });

  it('no part grows beyond its size by more than a line, however much is written at once', async () => {
    const spool = await open({ partBytes: 1_000 });
    for (let n = 0; n < 100; n++) spool.write('running', 'info', 'x'.repeat(100), n);
    await spool.flush();
    for (const part of await readdir(directory)) {
      expect((await stat(join(directory, part))).size).toBeLessThan(1_500);
    }
    expect(await messages(spool)).toHaveLength(100);
    expect((await open()).sourceOffset).toBe(99);
  });

  it('never parts lines from the offset that stands for them: a crash in between would have them come again', async () => {
    const spool = await open({ partBytes: 500 });
    for (let turn = 1; turn <= 3; turn++) {
      for (let line = 1; line < 10; line++) spool.write('running', 'info', `${turn}.${line}`, 'follows');
      spool.write('running', 'info', `${turn}.10\nand more`, turn * 1000);
    }
    await spool.flush();
    const names = (await readdir(directory)).filter((name) => name.endsWith('.jsonl')).sort();
    expect(names).toHaveLength(3);
    for (const [index, name] of names.entries()) {
      const last = (await readFile(join(directory, name), 'utf8')).trimEnd().split('\n').at(-1) ?? '';
      expect(JSON.parse(last)).toMatchObject({ message: 'and more', sourceOffset: (index + 1) * 1000 });
    }
  });

  it('cuts off whole lines that do not belong', async () => {
    await write(await open(), 'a');
    const [part = ''] = await readdir(directory);
    await appendFile(join(directory, part), 'rubbish\n');
    const healed = await open();
    await write(healed, 'b');
    expect(await messages(healed)).toEqual(['0 a', '1 b']);
  });

  it('reads from any number, over parts, up to a limit', async () => {
    const spool = await open({ partBytes: 1 });
    for (const line of ['a', 'b', 'c', 'd']) await write(spool, line);
    expect(await messages(spool, 0, 2)).toEqual(['1 b', '2 c']);
    expect(await messages(spool, 3, 2)).toEqual([]);
    expect(await messages(spool, -1, 0)).toEqual([]);
  });

  it('ships each part under the same name with the same bytes, also when the record of it was lost', async () => {
    const store = storeOf();
    const first = await open();
    await write(first, 'a');
    await first.ship(store.ship);
    await rm(join(directory, 'shipped.json'));
    const second = await open();
    await write(second, 'b');
    await second.ship(store.ship);
    expect(shipped(store.chunks)).toEqual([0, 1]);
    expect(second.unshippedBytes).toBe(0);
  });

  it('keeps what the store did not take', async () => {
    const spool = await open();
    await write(spool, 'a');
    const away = () => Promise.reject(new KilnError('STORE_UNAVAILABLE', 'away'));
    await expect(spool.ship(away)).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    expect(spool.unshippedBytes).toBeGreaterThan(0);
    const store = storeOf();
    await spool.ship(store.ship);
    expect(shipped(store.chunks)).toEqual([0]);
  });

  it('a line written while parts are shipped is neither lost nor shipped twice', async () => {
    const store = storeOf();
    const spool = await open();
    await write(spool, 'a');
    await spool.ship(async (part) => {
      await write(spool, 'b');
      await store.ship(part);
    });
    await spool.ship(store.ship);
    expect(shipped(store.chunks)).toEqual([0, 1]);
  });

  it('drops and counts what does not fit while the store is away', async () => {
    const spool = await open({ maxUnshippedBytes: 300 });
    await write(spool, 'a', 'b', 'c', 'd', 'e', 'f');
    const kept = (await spool.read(-1, 100)).length;
    expect(kept).toBeLessThan(6);
    await spool.ship(storeOf().ship);
    await write(spool, 'later');
    expect((await messages(spool)).slice(kept)).toEqual([
      `${kept} ${6 - kept} lines, ${2 * (6 - kept)} bytes lost: the log could not be shipped and its spool was full`,
      `${kept + 1} later`,
    ]);
  });

  it('knows how far a source is in it by the lines themselves, also when they are shipped and dropped', async () => {
    const first = await open();
    first.write('running', 'info', 'a', 10);
    first.write('running', 'info', 'b\nc', 20);
    first.write('running', 'info', 'not of the source');
    await first.flush();
    first.write('running', 'info', 'never safe', 30);
    const second = await open({ keepShippedBytes: 0 });
    expect(second.sourceOffset).toBe(20);
    await second.ship(storeOf().ship);
    const third = await open();
    expect(third.sourceOffset).toBe(20);
    expect(await third.read(-1, 10)).toEqual([]);
    third.write('running', 'info', 'd', 40);
    await third.flush();
    expect((await third.read(-1, 10))[0]).not.toHaveProperty('sourceOffset');
  });

  it('times never go back, even where the clock does', async () => {
    const spool = await open();
    await write(spool, 'a');
    now -= 60_000;
    await write(spool, 'b');
    const [a, b] = await spool.read(-1, 2);
    expect(b?.timestamp).toBe(a?.timestamp);
  });

  it('many writers and flushes at once give one gapless row', async () => {
    const spool = await open({ partBytes: 500 });
    await Promise.all(Array.from({ length: 50 }, (_, index) => write(spool, `m${index}`)));
    const found = await spool.read(-1, 1000);
    expect(found.map(({ n }) => n)).toEqual(Array.from({ length: 50 }, (_, n) => n));
    expect(new Set(found.map(({ message }) => message)).size).toBe(50);
  });
});
