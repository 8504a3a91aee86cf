import { createServer, type Server } from 'node:http';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { advance, type LogPositions } from '../../../../contracts/api/log-page.ts';
import type { NumberedLogEntry } from '../../../../domain/logs/log-entry.ts';
import type { FeedNews, LogFeed, Look } from '../../../../gateway/logs/log-feed.ts';
import type { LogReader } from '../../../../gateway/logs/log-reader.ts';
import { type LogStreamLimits, streamLog } from '../../../../gateway/logs/log-stream.ts';

const LIMITS: LogStreamLimits = {
  pollMs: 1,
  keepAliveMs: 3_600_000,
  slowReaderMs: 3_600_000,
  incompleteMs: 0,
  pageSize: 10,
};
const line = (n: number): NumberedLogEntry => ({
  timestamp: '2026-01-01T00:00:00.000Z',
  stage: 'running',
  level: n % 2 === 0 ? 'info' : 'error',
  message: `line ${n}`,
  epoch: 1,
  writer: 'h1',
  n,
});
const look = (number: number, more: Partial<Look> = {}): Look => ({
  number,
  place: { workloadId: 'w', hostId: 'h1', epoch: 1 },
  stage: 'running',
  isOpen: true,
  ...more,
});

let stored: NumberedLogEntry[];
let news: ((news: FeedNews) => void) | undefined;
let asked: Parameters<LogFeed['next']>[0][];
let server: Server;
let ended: Promise<void>;
let limits: LogStreamLimits;

const reader: Pick<LogReader, 'page'> = {
  page: async (_place, { positions, limit }) => {
    const after = positions['1-h1'] ?? -1;
    const entries = stored.filter(({ n }) => n > after).slice(0, limit);
    const reached: LogPositions = entries.reduce(advance, positions);
    return { entries, positions: reached, more: entries.length === limit, hostEpoch: 1 };
  },
};
const feed: LogFeed = {
  look: async () => look(1),
  next: (position, _waitMs, signal) =>
    new Promise((resolve) => {
      asked.push(position);
      news = resolve;
      signal.addEventListener('abort', () => resolve({ kind: 'quiet' }), { once: true });
    }),
  leave: () => undefined,
};

beforeEach(async () => {
  stored = [line(0), line(1)];
  asked = [];
  news = undefined;
  limits = LIMITS;
  const over = Promise.withResolvers<void>();
  ended = over.promise;
  server = createServer((request, response) => {
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    const filter = request.url === '/errors' ? ({ level: 'error' } as const) : {};
    const { page } = reader;
    const options = { feed, positions: {}, filter, limits, signal: gone.signal };
    streamLog(response, { ...options, reader: { page, tail: async () => ({ entries: [], truncated: false }) } })
      .finally(() => response.end())
      .then(over.resolve, over.reject);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
});

async function open(path = '/') {
  const address = server.address();
  const gone = new AbortController();
  const url = `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}${path}`;
  const reply = await fetch(url, { signal: gone.signal });
  let text = '';
  const pieces = reply.body?.pipeThrough(new TextDecoderStream()).getReader();
  return {
    /** Reads until the received text contains `part`. */
    async until(part: string): Promise<string> {
      while (!text.includes(part)) {
        const piece = await pieces?.read();
        if (piece === undefined || piece.done) throw new Error(`it ended without ${part}: ${text}`);
        text += piece.value;
      }
      return text;
    },
    leave: () => gone.abort(),
  };
}
/** Gives the stream the news that it waits for. */
async function tell(what: FeedNews): Promise<void> {
  await expect.poll(() => news).toBeDefined();
  const resolve = news;
  news = undefined;
  resolve?.(what);
}

describe('the stream of a log', () => {
  it('sends pages, then what its feed hands on, then the end, each line once', async () => {
    const stream = await open();
    await stream.until('line 1');
    await tell({ kind: 'lines', lines: [line(2), line(3)] });
    await stream.until('line 3');
    stored = [line(0), line(1), line(2), line(3), line(4)];
    await tell({ kind: 'look', look: look(2) });
    await stream.until('line 4');
    await tell({ kind: 'look', look: look(3, { stage: 'stopped', isOpen: false }) });
    const text = await stream.until('event: end');
    await ended;
    expect(text.match(/line \d/g)).toEqual(['line 0', 'line 1', 'line 2', 'line 3', 'line 4']);
    expect(asked.map(({ look: number, after }) => [number, after])).toEqual([
      [1, 1],
      [1, 3],
      [2, 4],
    ]);
  });

  it('sends only what is wanted, and passes by the rest', async () => {
    const stream = await open('/errors');
    await tell({ kind: 'lines', lines: [line(2), line(3)] });
    const text = await stream.until('line 3');
    expect(text.match(/line \d/g)).toEqual(['line 1', 'line 3']);
    await tell({ kind: 'lines', lines: [line(4)] });
    await expect.poll(() => asked.at(-1)?.after).toBe(4);
  });

  it('reads pages where its feed has a gap', async () => {
    const stream = await open();
    await stream.until('line 1');
    stored = Array.from({ length: 30 }, (_, n) => line(n));
    await tell({ kind: 'gap' });
    await stream.until('line 29');
    await tell({ kind: 'gap' });
    await expect.poll(() => asked.map(({ after }) => after)).toEqual([1, 29, 29]);
  });

  it('gives a sign of life when nothing came', async () => {
    const stream = await open();
    await stream.until('line 1');
    await tell({ kind: 'quiet' });
    await stream.until(': still here');
  });

  it('ends as soon as its reader leaves', async () => {
    const stream = await open();
    await stream.until('line 1');
    await expect.poll(() => news).toBeDefined();
    stream.leave();
    await ended;
  });
});
