import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import type { ExecHandle } from '../../../ports/guest-agent.ts';
import { type Bench, freshId, runIn } from '../../support/guest/guest-under-test.ts';

const PORT = 8123;
const addressLists = z.array(z.array(z.string()));

/** PORT echoes; PORT + 1 resets each connection after its first byte; PORT + 2 answers with a hash of what it got. */
const SERVERS = `
const { createServer } = require('node:net');
const { createHash } = require('node:crypto');
createServer({ allowHalfOpen: true }, (s) => s.on('error', () => {}).pipe(s)).listen(${PORT});
createServer((s) => s.once('data', () => s.resetAndDestroy())).listen(${PORT + 1});
createServer({ allowHalfOpen: true }, (s) => {
  const hash = createHash('sha256');
  s.on('data', (d) => hash.update(d)).on('end', () => s.end(hash.digest('hex')));
}).listen(${PORT + 2}, () => console.log('listening'));
`;

/** Sends a text to name:port; prints the answer or the code of the error. */
const CLIENT = `
const [name, port, text] = process.argv.slice(1);
const socket = require('node:net').connect({ host: name, port: Number(port), allowHalfOpen: true });
socket.end(text);
let seen = '';
socket.on('data', (d) => { seen += d; });
socket.on('end', () => console.log('answer ' + seen));
socket.on('error', (e) => console.log('error ' + e.code));
`;

export function describeStreams(bench: Bench): void {
  describe('connections into the guest', () => {
    let servers: ExecHandle;
    beforeAll(async () => {
      servers = await bench.agent().exec({ execId: freshId(), argv: ['node', '-e', SERVERS], output: 'ring' });
      for await (const piece of servers.output) if (piece.kind === 'data' && piece.data.includes('listening')) break;
    });
    afterAll(async () => {
      const handle = await bench.agent().attachExec(servers.execId);
      await handle.signal('SIGKILL');
      await handle.exit;
    });

    it('an echo comes back whole, each direction ended by its own side', async () => {
      const sent = randomBytes(3_000_000);
      const socket = await bench.agent().connectTcp(PORT);
      socket.end(sent);
      expect((await buffer(socket)).equals(sent)).toBe(true);
    });

    it('the guest can answer after this side has ended', async () => {
      const sent = randomBytes(1_000_000);
      const socket = await bench.agent().connectTcp(PORT + 2);
      socket.end(sent);
      expect((await buffer(socket)).toString()).toBe(createHash('sha256').update(sent).digest('hex'));
    });

    it('a reader that stands still stops only its own stream', async () => {
      const stuck = await bench.agent().connectTcp(PORT);
      stuck.on('error', () => {});
      stuck.write(randomBytes(4_000_000));
      const socket = await bench.agent().connectTcp(PORT);
      socket.end('hello');
      expect((await buffer(socket)).toString()).toBe('hello');
      stuck.destroy();
      await bench.agent().ping();
    });

    it('a hundred at once', async () => {
      const one = async (n: number): Promise<string> => {
        const socket = await bench.agent().connectTcp(PORT);
        socket.end(`${n}`.repeat(10_000));
        return (await buffer(socket)).toString();
      };
      const seen = await Promise.all(Array.from({ length: 100 }, (_, n) => one(n)));
      expect(seen.every((text, n) => text === `${n}`.repeat(10_000))).toBe(true);
    });

    it('a reset is a reset', async () => {
      const socket = await bench.agent().connectTcp(PORT + 1);
      socket.write('x');
      await expect(buffer(socket)).rejects.toMatchObject({ code: 'ECONNRESET' });
    });

    it('a port that nobody listens on is NOT_FOUND, and so are the ports of the agent', async () => {
      for (const port of [9, 80, 443]) {
        await expect(bench.agent().connectTcp(port)).rejects.toMatchObject({ code: 'NOT_FOUND' });
      }
    });
  });

  describe('connections out of the guest', () => {
    let outside: Server;
    const asked: string[] = [];
    beforeAll(async () => {
      outside = createServer({ allowHalfOpen: true }, (socket) => void answer(socket));
      outside.listen(0, '127.0.0.1');
      await once(outside, 'listening');
    });
    afterAll(() => outside.close());

    const serve = () =>
      bench.agent().serveEgress(async ({ name, port }) => {
        asked.push(`${name}:${port}`);
        if (name === 'broken.example') throw new Error('cannot reach it');
        if (name !== 'allowed.example') return { allow: false, reason: 'not on the list' };
        const address = outside.address();
        if (address === null || typeof address === 'string') throw new Error('not listening');
        return { allow: true, socket: connect({ port: address.port, host: '127.0.0.1', allowHalfOpen: true }) };
      });
    const ask = async (name: string, port: number, text: string): Promise<string> =>
      (await runIn(bench.agent(), ['node', '-e', CLIENT, name, String(port), text])).stdout;

    it('reach a name that the host allows, on 80 and 443', async () => {
      serve();
      expect(await ask('allowed.example', 443, 'abc')).toBe('answer got abc\n');
      expect(await ask('Allowed.Example', 80, 'x'.repeat(100_000))).toBe(`answer got ${'x'.repeat(100_000)}\n`);
      expect(asked).toEqual(['allowed.example:443', 'allowed.example:80']);
    });

    it('are reset where the host refuses or fails', async () => {
      serve();
      expect(await ask('denied.example', 443, 'abc')).toBe('error ECONNRESET\n');
      expect(await ask('broken.example', 443, 'abc')).toBe('error ECONNRESET\n');
    });

    it('are reset without a name, and after a reattach without a handler', async () => {
      serve();
      asked.length = 0;
      expect(await ask('127.200.1.1', 443, 'abc')).toBe('error ECONNRESET\n');
      expect(asked).toEqual([]);
      await bench.reattach();
      expect(await ask('allowed.example', 443, 'abc')).toBe('error ECONNRESET\n');
    });

    it('the resolver has an address of its own for each name and no IPv6', async () => {
      const lookup = `const d = require('node:dns/promises');
        const own = (n) => d.lookup(n, { all: true });
        Promise.all(['a.example', 'b.example', 'a.example', 'localhost'].map(own)).then((all) =>
          console.log(JSON.stringify(all.map((list) => list.filter((a) => a.family === 4 || !a.address.startsWith('::1')).map((a) => a.address)))));`;
      const { stdout } = await runIn(bench.agent(), ['node', '-e', lookup]);
      const [first, second, again, local] = addressLists.parse(JSON.parse(stdout)).map(([address]) => address);
      expect(first).toMatch(/^127\.128\./);
      expect(second).toMatch(/^127\.128\./);
      expect(second).not.toEqual(first);
      expect([again, local]).toEqual([first, '127.0.0.1']);
    });
  });
}

async function answer(socket: Socket): Promise<void> {
  socket.on('error', () => {});
  socket.end(`got ${(await buffer(socket)).toString()}`);
}
