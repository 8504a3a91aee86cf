import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, connect, createServer, type Server } from 'node:net';
import type { Duplex } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createEgressDialer, type EgressDialerOptions } from '../../../../host/egress/dialer.ts';

const LIMITS = { resolveMs: 5000, connectMs: 5000, maxAddresses: 2, maxLookups: 2 };
let target: Server;
let port: number;
const open: { close(): unknown }[] = [];

beforeEach(async () => {
  target = createServer(
    { allowHalfOpen: true },
    (socket) => void text(socket).then((said) => socket.end(`heard ${said}`)),
  );
  target.listen(0, '127.0.0.1');
  open.push(target);
  await once(target, 'listening');
  port = portOf(target);
});
afterEach(() => {
  for (const server of open.splice(0)) server.close();
});

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port;
}

const dialerTo = (addresses: readonly string[], options: Partial<EgressDialerOptions> = {}) =>
  createEgressDialer({ ...LIMITS, resolve: async () => addresses, ...options });
const policy = () => ({ allow: [`svc.example:${port}`], privateAllowed: [`svc.example:${port}`] });

async function talk(socket: Duplex): Promise<string> {
  socket.end('hello');
  return text(socket);
}

describe('egress dialer', () => {
  it('dials the resolved address of an allowed name, both half-closes included', async () => {
    const verdict = await dialerTo(['127.0.0.1'])(policy(), { name: 'SVC.example.', port });
    if (!verdict.allow) throw new Error(verdict.reason);
    expect(await talk(verdict.socket)).toBe('heard hello');
  });

  it('does not resolve what the policy does not name', async () => {
    let resolved = 0;
    const dial = createEgressDialer({ ...LIMITS, resolve: async () => [`${++resolved}`] });
    expect(await dial({ allow: [], privateAllowed: [] }, { name: 'svc.example', port })).toMatchObject({
      allow: false,
    });
    expect(await dial(policy(), { name: '127.0.0.1', port })).toMatchObject({ allow: false });
    expect(resolved).toBe(0);
  });

  it.each(['127.0.0.1', '169.254.169.254', '10.0.0.1', '::1', '::ffff:127.0.0.1', 'fd00::1', '100.64.0.1'])(
    'refuses a name that leads to %s',
    async (address) => {
      const dial = dialerTo([address]);
      const verdict = await dial({ ...policy(), privateAllowed: [] }, { name: 'svc.example', port });
      expect(verdict).toEqual({ allow: false, reason: 'svc.example leads to a private address' });
    },
  );

  it('refuses the metadata address even for entries named as private', async () => {
    expect(await dialerTo(['169.254.169.254'])(policy(), { name: 'svc.example', port })).toMatchObject({
      allow: false,
    });
  });

  it('goes on to the next address, and says so when none answers', async () => {
    const closed = createServer();
    closed.listen(0, '127.0.0.1');
    await once(closed, 'listening');
    const closedPort = portOf(closed);
    closed.close();
    await once(closed, 'close');
    const both = await dialerTo(['127.0.0.2', '127.0.0.1'])(policy(), { name: 'svc.example', port });
    expect(both.allow).toBe(true);
    if (both.allow) both.socket.destroy();
    const none = { allow: [`svc.example:${closedPort}`], privateAllowed: [`svc.example:${closedPort}`] };
    expect(await dialerTo(['127.0.0.1'])(none, { name: 'svc.example', port: closedPort })).toEqual({
      allow: false,
      reason: `svc.example:${closedPort} does not answer`,
    });
  });

  it('a name server that fails or never answers is a refusal', async () => {
    const failing = dialerTo([], { resolve: () => Promise.reject(new Error('SERVFAIL')) });
    expect(await failing(policy(), { name: 'svc.example', port })).toMatchObject({ allow: false });
    const silent = dialerTo([], { resolveMs: 1, resolve: () => new Promise(() => undefined) });
    expect(await silent(policy(), { name: 'svc.example', port })).toMatchObject({ allow: false });
    expect(await dialerTo([])(policy(), { name: 'svc.example', port })).toMatchObject({ allow: false });
  });

  it('looks each name up once for all who ask at the same time, and few names at once', async () => {
    const gates = new Map<string, () => void>();
    const looked: string[] = [];
    const resolve = (name: string) => {
      looked.push(name);
      return new Promise<string[]>((done) => gates.set(name, () => done([])));
    };
    const dial = createEgressDialer({ ...LIMITS, resolve });
    const ask = (name: string) => dial({ allow: ['*.example:443'], privateAllowed: [] }, { name, port: 443 });
    const asked = ['a.example', 'a.example', 'b.example', 'c.example'].map(ask);
    expect(looked).toEqual(['a.example', 'b.example']);
    gates.get('b.example')?.();
    expect(await asked[2]).toMatchObject({ allow: false });
    expect(looked).toEqual(['a.example', 'b.example', 'c.example']);
    gates.get('a.example')?.();
    gates.get('c.example')?.();
    await Promise.all(asked);
    const again = ask('a.example');
    expect(looked.filter((name) => name === 'a.example')).toHaveLength(2);
    gates.get('a.example')?.();
    await again;
  });

  describe('for names that the operator calls private', () => {
    const entry = () => `svc.example:${port}`;
    const allowing = (...allow: string[]) => ({ allow, privateAllowed: [] });
    const dialerOf = (addresses: readonly string[], privateNames = [entry()]) => dialerTo(addresses, { privateNames });
    const ask = (dial: ReturnType<typeof dialerOf>, name = 'svc.example', at = port, allow = [`${name}:${at}`]) =>
      dial(allowing(...allow), { name, port: at });

    it('dials a private address, in whatever case the guest writes the name', async () => {
      const verdict = await dialerOf(['127.0.0.1'])(allowing(entry()), { name: 'SVC.example.', port });
      if (!verdict.allow) throw new Error(verdict.reason);
      expect(await talk(verdict.socket)).toBe('heard hello');
      expect(await ask(dialerOf(['127.0.0.1'], []))).toMatchObject({ allow: false });
    });

    it('only where the policy of the guest allows them, also by a wildcard', async () => {
      const dial = dialerOf(['127.0.0.1']);
      expect(await ask(dial, 'svc.example', port, [])).toEqual({ allow: false, reason: 'not on the allow-list' });
      const verdict = await ask(dial, 'svc.example', port, [`*.example:${port}`]);
      expect(verdict.allow).toBe(true);
      if (verdict.allow) verdict.socket.destroy();
    });

    it.each([
      '169.254.169.254',
      '168.63.129.16',
      '100.100.100.200',
      'fd00:ec2::254',
      '::ffff:169.254.169.254',
      '0.0.0.0',
    ])('never at %s', async (address) => {
      expect(await ask(dialerOf([address]))).toEqual({
        allow: false,
        reason: 'svc.example leads to a private address',
      });
    });

    it('not at another port, and no other name that leads to the same address', async () => {
      const dial = dialerOf(['127.0.0.1'], [`svc.example:${port + 1}`]);
      expect(await ask(dial)).toMatchObject({ allow: false });
      const other = dialerOf(['127.0.0.1']);
      for (const name of ['other.example', 'x.svc.example', 'vc.example']) {
        expect(await ask(other, name)).toEqual({ allow: false, reason: `${name} leads to a private address` });
      }
    });

    it('of mixed answers dials what is neither metadata nor reserved', async () => {
      const verdict = await ask(dialerOf(['169.254.169.254', '0.0.0.0', '127.0.0.1', 'fd00:ec2::254']));
      if (!verdict.allow) throw new Error(verdict.reason);
      expect(await talk(verdict.socket)).toBe('heard hello');
    });
  });

  describe('through a proxy', () => {
    async function proxy(status: number): Promise<{ url: string; asked: string[]; authorisation: string[] }> {
      const asked: string[] = [];
      const authorisation: string[] = [];
      const server = createHttpServer();
      server.on('connect', (request, client: Duplex, head: Buffer) => {
        asked.push(request.url ?? '');
        authorisation.push(request.headers['proxy-authorization'] ?? '');
        if (status !== 200) {
          client.end(`HTTP/1.1 ${status} No\r\n\r\n`);
          return;
        }
        const upstream = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
        client.write('HTTP/1.1 200 OK\r\n\r\n');
        upstream.write(head);
        upstream.pipe(client);
        client.pipe(upstream);
      });
      server.listen(0, '127.0.0.1');
      open.push(server);
      await once(server, 'listening');
      return { url: `http://me:p%40ss@127.0.0.1:${portOf(server)}`, asked, authorisation };
    }

    it('asks it for the judged address, with its credentials', async () => {
      const { url, asked, authorisation } = await proxy(200);
      const dial = dialerTo(['203.0.113.9'], { proxy: { url, bypass: [] } });
      const verdict = await dial({ allow: [`svc.example:${port}`], privateAllowed: [] }, { name: 'svc.example', port });
      if (!verdict.allow) throw new Error(verdict.reason);
      expect(await talk(verdict.socket)).toBe('heard hello');
      expect(asked).toEqual([`203.0.113.9:${port}`]);
      expect(authorisation).toEqual([`Basic ${Buffer.from('me:p@ss').toString('base64')}`]);
    });

    it('asks it for nothing private, and takes its refusal for one', async () => {
      const { url, asked } = await proxy(403);
      const dial = dialerTo(['10.0.0.1'], { proxy: { url, bypass: [] } });
      const only = { allow: [`svc.example:${port}`], privateAllowed: [] };
      expect(await dial(only, { name: 'svc.example', port })).toMatchObject({ allow: false });
      expect(asked).toEqual([]);
      const refused = dialerTo(['203.0.113.9'], { proxy: { url, bypass: [] } });
      expect(await refused(only, { name: 'svc.example', port })).toMatchObject({ allow: false });
      expect(asked).toHaveLength(1);
    });

    it('leaves it out for private addresses of names that the operator calls private, and for those alone', async () => {
      const { url, asked } = await proxy(200);
      const only = { allow: [`svc.example:${port}`], privateAllowed: [] };
      for (const [address, through] of [
        ['127.0.0.1', []],
        ['203.0.113.9', [`203.0.113.9:${port}`]],
      ] as const) {
        const dial = dialerTo([address], { proxy: { url, bypass: [] }, privateNames: [`svc.example:${port}`] });
        const verdict = await dial(only, { name: 'svc.example', port });
        if (!verdict.allow) throw new Error(verdict.reason);
        expect(await talk(verdict.socket)).toBe('heard hello');
        expect(asked).toEqual(through);
      }
    });

    it('leaves it out for names that are to be dialled directly', async () => {
      const dial = dialerTo(['127.0.0.1'], { proxy: { url: 'http://127.0.0.1:1', bypass: ['.example'] } });
      const verdict = await dial(policy(), { name: 'svc.example', port });
      expect(verdict.allow).toBe(true);
      if (verdict.allow) verdict.socket.destroy();
    });
  });
});
