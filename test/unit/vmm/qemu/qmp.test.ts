import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KilnError } from '../../../../domain/failures.ts';
import { connectQmp, type QmpEvent } from '../../../../vmm/qemu/qmp-client.ts';
import { createQmpParser, parseQmpMessage } from '../../../../vmm/qemu/qmp-messages.ts';

const GREETING =
  '{"QMP":{"version":{"qemu":{"micro":22,"minor":2,"major":7},"package":"Debian"},"capabilities":["oob"]}}';
const LINES = [
  GREETING,
  '{"return": {}, "id": 1}',
  '{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}',
  '{"error": {"class": "GenericError", "desc": "no"}, "id": 3}',
  '{"event": "STOP"}',
];

describe('QMP parser', () => {
  const whole = LINES.map(parseQmpMessage);

  it('does not care how the bytes arrive', () => {
    const bytes = Buffer.from(LINES.map((line) => `${line}\r\n`).join(''));
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: bytes.length }), { maxLength: 30 }), (cuts) => {
        const parser = createQmpParser();
        const ends = [...cuts, bytes.length].sort((a, b) => a - b);
        const parts = ends.map((end, index) => bytes.subarray(ends[index - 1] ?? 0, end));
        expect(parts.flatMap((part) => parser.push(part))).toEqual(whole);
      }),
    );
  });

  it('refuses with a typed error or answers, whatever it is fed', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        const parser = createQmpParser(100);
        try {
          parser.push(Buffer.from(bytes));
        } catch (error) {
          expect(error).toBeInstanceOf(KilnError);
        }
      }),
    );
    fc.assert(
      fc.property(fc.json(), (text) => {
        try {
          parseQmpMessage(text);
        } catch (error) {
          expect(error).toBeInstanceOf(KilnError);
        }
      }),
    );
  });

  it('a line without end is refused before it fills the memory', () => {
    const parser = createQmpParser(100);
    parser.push(Buffer.alloc(100, 'x'));
    expect(() => parser.push(Buffer.from('x'))).toThrow(expect.objectContaining({ code: 'INTERNAL' }));
    expect(() => createQmpParser(100).push(Buffer.from(`${'x'.repeat(101)}\n`))).toThrow(
      expect.objectContaining({ code: 'INTERNAL' }),
    );
  });
});

describe('QMP client', () => {
  let directory: string;
  let path: string;
  let server: Server;
  let answer: (socket: Socket, request: { execute: string; id: number }) => void;
  const sockets = new Set<Socket>();

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'kiln-qmp-'));
    path = join(directory, 'q.sock');
    answer = (socket, { id }) => socket.write(`{"return":{},"id":${id}}\n`);
    server = createServer((socket) => {
      sockets.add(socket);
      socket.on('error', () => undefined);
      socket.write(`${GREETING}\n`);
      socket.on('data', (chunk) => {
        for (const line of chunk.toString().trim().split('\n')) answer(socket, JSON.parse(line));
      });
    });
    await new Promise<void>((resolve) => server.listen(path, resolve));
  });
  afterEach(async () => {
    for (const socket of sockets) socket.destroy();
    sockets.clear();
    await new Promise((resolve) => server.close(resolve));
    await rm(directory, { recursive: true, force: true });
  });

  it('negotiates, then asks and hears events', async () => {
    const events: QmpEvent[] = [];
    const client = await connectQmp(path, { deadlineMs: 10_000, onEvent: (event) => events.push(event) });
    expect(client.version).toBe('7.2.22');
    answer = (socket, { execute, id }) => {
      socket.write('{"event":"STOP"}\n');
      socket.write(`{"return":{"asked":"${execute}"},"id":${id}}\n`);
    };
    expect(await client.execute('query-status', { deadlineMs: 10_000 })).toEqual({ asked: 'query-status' });
    expect(events).toEqual([{ name: 'STOP', data: {} }]);
    client.close();
  });

  it('matches answers to questions by id', async () => {
    const client = await connectQmp(path, { deadlineMs: 10_000 });
    const held: { socket: Socket; id: number; execute: string }[] = [];
    answer = (socket, request) => {
      held.push({ socket, ...request });
      if (held.length < 2) return;
      for (const { id, execute } of held.reverse()) socket.write(`{"return":"${execute}","id":${id}}\n`);
    };
    const both = await Promise.all(['a', 'b'].map((command) => client.execute(command, { deadlineMs: 10_000 })));
    expect(both).toEqual(['a', 'b']);
    client.close();
  });

  it('a refusal, a silence and a hang-up are told apart', async () => {
    const client = await connectQmp(path, { deadlineMs: 10_000 });
    answer = (socket, { id }) => socket.write(`{"error":{"class":"GenericError","desc":"no"},"id":${id}}\n`);
    await expect(client.execute('x', { deadlineMs: 10_000 })).rejects.toMatchObject({
      code: 'INTERNAL',
      details: { class: 'GenericError' },
    });
    answer = () => undefined;
    await expect(client.execute('x', { deadlineMs: 1 })).rejects.toMatchObject({ code: 'TIMED_OUT' });
    answer = (socket) => socket.destroy();
    await expect(client.execute('x', { deadlineMs: 10_000 })).rejects.toMatchObject({ code: 'VMM_EXITED' });
    await expect(client.execute('x', { deadlineMs: 10_000 })).rejects.toMatchObject({ code: 'VMM_EXITED' });
  });

  it('nobody there is not the same as nobody answering', async () => {
    await expect(connectQmp(join(directory, 'none.sock'), { deadlineMs: 10_000 })).rejects.toMatchObject({
      code: 'VMM_EXITED',
    });
    answer = () => undefined;
    await expect(connectQmp(path, { deadlineMs: 20 })).rejects.toMatchObject({ code: 'TIMED_OUT' });
  });

  it('garbage ends the connection with a typed error', async () => {
    const client = await connectQmp(path, { deadlineMs: 10_000 });
    answer = (socket) => socket.write('garbage\n');
    await expect(client.execute('x', { deadlineMs: 10_000 })).rejects.toMatchObject({ code: 'INTERNAL' });
  });
});
