import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KilnError } from '../../../../domain/failures.ts';
import { MAX_LOG_MESSAGE } from '../../../../domain/logs/log-entry.ts';
import { workloadRef } from '../../../../domain/owner.ts';
import { createHostLogs, type HostLogs } from '../../../../host/logs/host-logs.ts';
import { LINE_GOES_ON } from '../../../../host/logs/output-lines.ts';
import { pumpServiceOutput } from '../../../../host/logs/output-pump.ts';
import type { ExecOutput, OutputStream } from '../../../../ports/guest-agent.ts';
import { silentLogger } from '../../../support/workers/silent-logger.ts';

const OPTIONS = { partialLineMs: 60_000, tailLines: 3, maxUnsafeBytes: 1_000_000 };
let stateDir: string;
let logs: HostLogs;

beforeEach(async () => {
  stateDir = await mkdtemp(join(tmpdir(), 'kl-'));
  logs = createHostLogs({
    stateDir,
    hostId: 'h1',
    store: { putBlob: () => Promise.reject(new KilnError('STORE_UNAVAILABLE', 'away')) },
    shipEveryMs: 60_000,
    maxFollowMs: 60_000,
    maxFollows: 10,
    partBytes: 100_000,
    maxUnshippedBytes: 1_000_000,
    keepShippedBytes: 0,
    flushMs: 60_000,
    logger: silentLogger,
  });
});
afterEach(() => rm(stateDir, { recursive: true, force: true }));

/** A guest's output from an offset on, in the given pieces. */
function outputOf(pieces: readonly [OutputStream, string][], from = 0): ExecOutput[] {
  let offset = 0;
  return pieces.flatMap(([stream, text]) => {
    const data = Buffer.from(text);
    const piece: ExecOutput = { kind: 'data', stream, offset, data };
    offset += data.length;
    if (offset <= from) return [];
    if (piece.offset >= from) return [piece];
    return [{ ...piece, offset: from, data: data.subarray(from - piece.offset) }];
  });
}

async function* play(pieces: readonly ExecOutput[], end?: Error): AsyncGenerator<ExecOutput> {
  yield* pieces;
  if (end !== undefined) throw end;
}

async function pump(
  output: AsyncIterable<ExecOutput>,
  acknowledged: number[] = [],
  tail: string[] = [],
): Promise<void> {
  const writer = await logs.open(workloadRef('w', 0));
  const acknowledge = (offset: number) => void acknowledged.push(offset);
  const target = { log: workloadRef('w', 0), logs, writer, stage: () => 'running' as const };
  await pumpServiceOutput({ output, acknowledge }, target, tail, OPTIONS);
}
const lines = async () =>
  (await logs.read(workloadRef('w', 0), -1, 1000)).map(({ level, message }) => `${level} ${message}`);

describe('service output', () => {
  it('stdout is info, stderr is warn, lines of both keep apart', async () => {
    const tail: string[] = [];
    await pump(
      play(
        outputOf([
          ['stdout', 'one\ntw'],
          ['stderr', 'bad\n'],
          ['stdout', 'o\nlast'],
        ]),
      ),
      [],
      tail,
    );
    expect(await lines()).toEqual(['info one', 'warn bad', 'info two', 'info last']);
    expect(tail).toEqual(['bad', 'two', 'last']);
  });

  it('is on disk, with its offset, before it is acknowledged', async () => {
    const seen: string[][] = [];
    const acknowledge = async (): Promise<void> => void seen.push(await lines());
    const writer = await logs.open(workloadRef('w', 0));
    const offsets: Promise<number>[] = [];
    await pumpServiceOutput(
      {
        output: play(
          outputOf([
            ['stdout', 'one\n'],
            ['stdout', 'two\n'],
          ]),
        ),
        acknowledge: (offset) => {
          offsets.push(logs.serviceOffset(workloadRef('w', 0)));
          void acknowledge();
          expect(offset).toBeGreaterThan(0);
        },
      },
      { log: workloadRef('w', 0), logs, writer, stage: () => 'running' },
      [],
      OPTIONS,
    );
    expect(await Promise.all(offsets)).toContain(8);
    expect(await logs.serviceOffset(workloadRef('w', 0))).toBe(8);
    expect(await lines()).toEqual(['info one', 'info two']);
  });

  it('a crash between a line and its offset cannot be: the line has it', async () => {
    const writer = await logs.open(workloadRef('w', 0));
    const target = {
      log: workloadRef('w', 0),
      writer,
      stage: () => 'running' as const,
      logs: { saveServiceOffset: () => Promise.reject(new Error('killed before the offset was saved')) },
    };
    const output = play(outputOf([['stdout', 'one\ntwo\nthr']]));
    await expect(pumpServiceOutput({ output, acknowledge: () => undefined }, target, [], OPTIONS)).rejects.toThrow(
      'killed',
    );
    expect(await logs.serviceOffset(workloadRef('w', 0))).toBe(11);
    expect(await lines()).toEqual(['info one', 'info two', 'info thr']);
  });

  it('a line that says how grave it is counts as that, on either output', async () => {
    await pump(
      play(
        outputOf([
          ['stdout', '[error] one\n{"level":50}\nplain\n'],
          ['stderr', 'Error: two\n'],
          ['stdout', 'FATAL three'],
        ]),
      ),
    );
    const levels = (await lines()).map((line) => line.split(' ')[0]);
    expect(levels).toEqual(['error', 'error', 'info', 'error', 'error']);
  });

  it('takes no more than it may before the disk has it', async () => {
    const gate = Promise.withResolvers<void>();
    let taken = 0;
    async function* output(): AsyncGenerator<ExecOutput> {
      for (const piece of outputOf(Array.from({ length: 50 }, () => ['stdout', 'ten bytes\n'] as const))) {
        taken += 10;
        yield piece;
      }
    }
    const writer = { write: () => undefined, flush: () => gate.promise };
    const target = { log: workloadRef('w', 0), logs, writer, stage: () => 'running' as const };
    const options = { ...OPTIONS, maxUnsafeBytes: 100 };
    const pumping = pumpServiceOutput({ output: output(), acknowledge: () => undefined }, target, [], options);
    await new Promise((done) => setImmediate(done));
    expect(taken).toBe(110);
    gate.resolve();
    await pumping;
    expect(taken).toBe(500);
  });

  it('shows a gap as a line', async () => {
    await pump(
      play([
        { kind: 'gap', offset: 0, bytes: 4096 },
        ...outputOf(
          [
            ['stdout', 'x'.repeat(4096)],
            ['stdout', 'on\n'],
          ],
          4096,
        ),
      ]),
    );
    expect(await lines()).toEqual([
      'warn 4096 bytes of output lost: the log could not keep up with the service',
      'info on',
    ]);
  });

  it('after a lost channel every line is there once', async () => {
    const pieces: [OutputStream, string][] = [
      ['stdout', 'one\ntw'],
      ['stdout', 'o\nthree\n'],
    ];
    const lost = new KilnError('AGENT_LOST', 'lost');
    await expect(pump(play(outputOf(pieces).slice(0, 1), lost))).rejects.toBe(lost);
    const from = await logs.serviceOffset(workloadRef('w', 0));
    expect(from).toBe(4);
    await pump(play(outputOf(pieces, from)));
    expect(await lines()).toEqual(['info one', 'info two', 'info three']);
  });

  it("with an unfinished line behind another stream's lines, none is written twice", async () => {
    const pieces: [OutputStream, string][] = [
      ['stdout', 'half'],
      ['stderr', 'bad\n'],
      ['stdout', ' rest\n'],
    ];
    const lost = new KilnError('AGENT_LOST', 'lost');
    await expect(pump(play(outputOf(pieces).slice(0, 2), lost))).rejects.toBe(lost);
    await pump(play(outputOf(pieces, await logs.serviceOffset(workloadRef('w', 0)))));
    expect((await lines()).sort()).toEqual(['info  rest', 'info half', 'warn bad']);
  });

  it('an endless line neither grows nor stays unseen', async () => {
    const acknowledged: number[] = [];
    const chunk = 'y'.repeat(5000);
    await pump(
      play(
        outputOf([
          ['stdout', chunk],
          ['stdout', chunk],
          ['stdout', chunk],
          ['stdout', chunk],
        ]),
      ),
      acknowledged,
    );
    const pieces = (await lines()).map((line) => line.slice('info '.length));
    expect(pieces.map((piece) => piece.endsWith(LINE_GOES_ON))).toEqual([true, true, false]);
    expect(pieces.every((piece) => piece.length <= MAX_LOG_MESSAGE)).toBe(true);
    expect(pieces.join('').replaceAll(LINE_GOES_ON, '')).toBe('y'.repeat(20_000));
    expect(acknowledged.at(-1)).toBe(20_000);
  });

  it('a stream that always has an unfinished line has none of them cut, however long it goes on', async () => {
    const pieces: [OutputStream, string][] = Array.from({ length: 30 }, (_, n) => ['stdout', `${n} begins\nhalf `]);
    async function* output(): AsyncGenerator<ExecOutput> {
      for (const piece of outputOf(pieces)) {
        yield piece;
        // In total longer than a line may stay unfinished, although each line alone is unfinished much shorter.
        await new Promise((done) => setTimeout(done, 5));
      }
    }
    const writer = await logs.open(workloadRef('w', 0));
    const target = { log: workloadRef('w', 0), logs, writer, stage: () => 'running' as const };
    const options = { ...OPTIONS, partialLineMs: 100 };
    await pumpServiceOutput({ output: output(), acknowledge: () => undefined }, target, [], options);
    expect(await lines()).toEqual([
      'info 0 begins',
      ...Array.from({ length: 29 }, (_, n) => `info half ${n + 1} begins`),
      'info half ',
    ]);
  });

  it('a line is not cut because this process stood still while its end came', async () => {
    const stillMs = 400;
    const half = Promise.withResolvers<Socket>();
    const guest = createServer((socket) => socket.write('half', () => half.resolve(socket))).listen(0, '127.0.0.1');
    await once(guest, 'listening');
    const address = guest.address();
    if (address === null || typeof address === 'string') throw new Error('no port');
    const output = async function* (): AsyncGenerator<ExecOutput> {
      let offset = 0;
      for await (const data of connect(address.port, '127.0.0.1')) {
        yield { kind: 'data', stream: 'stdout', offset, data };
        offset += data.length;
      }
    };
    const writer = await logs.open(workloadRef('w', 0));
    const taken = Promise.withResolvers<void>();
    const noting = async function* () {
      for await (const piece of output()) {
        setImmediate(taken.resolve);
        yield piece;
      }
    };
    const pumping = pumpServiceOutput(
      { output: noting(), acknowledge: () => undefined },
      { log: workloadRef('w', 0), logs, writer, stage: () => 'running' },
      [],
      { ...OPTIONS, partialLineMs: stillMs / 2 },
    );
    const socket = await half.promise;
    await taken.promise;
    socket.end(' done\n');
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, stillMs);
    await pumping;
    guest.close();
    expect(await lines()).toEqual(['info half done']);
  });

  it('nor because nothing was taken while the log was slow', async () => {
    const writer = await logs.open(workloadRef('w', 0));
    const slow = {
      write: writer.write.bind(writer),
      flush: () => delay(50).then(() => writer.flush()),
    };
    await pumpServiceOutput(
      {
        output: play(
          outputOf([
            ['stdout', 'x\nhalf'],
            ['stdout', 'way\n'],
          ]),
        ),
        acknowledge: () => undefined,
      },
      { log: workloadRef('w', 0), logs, writer: slow, stage: () => 'running' },
      [],
      { ...OPTIONS, partialLineMs: 10, maxUnsafeBytes: 1 },
    );
    expect(await lines()).toEqual(['info x', 'info halfway']);
  });

  it('an unfinished line is shown after its time, while the output goes on', async () => {
    const writer = await logs.open(workloadRef('w', 0));
    const acknowledged = Promise.withResolvers<number>();
    const gate = Promise.withResolvers<void>();
    async function* output(): AsyncGenerator<ExecOutput> {
      yield* outputOf([['stdout', 'prompt> ']]);
      await gate.promise;
    }
    const pumping = pumpServiceOutput(
      { output: output(), acknowledge: acknowledged.resolve },
      { log: workloadRef('w', 0), logs, writer, stage: () => 'running' },
      [],
      { ...OPTIONS, partialLineMs: 1 },
    );
    expect(await acknowledged.promise).toBe(8);
    expect(await lines()).toEqual(['info prompt> ']);
    gate.resolve();
    await pumping;
  });
});
