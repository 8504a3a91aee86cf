import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { listenOn, listenOnFree, type PortListener } from '../../../../host/vm-ports/listener.ts';

const OPTIONS = { bindAddress: '127.0.0.1', ports: { from: 20_000, to: 29_999 }, maxConnections: 2 };
let guest: Server;
const listeners: PortListener[] = [];
const accepted: Socket[] = [];

beforeEach(async () => {
  guest = createServer({ allowHalfOpen: true }, (socket) => {
    accepted.push(socket);
    socket.on('error', () => undefined);
  });
  guest.listen(0, '127.0.0.1');
  await once(guest, 'listening');
});
afterEach(async () => {
  for (const listener of listeners.splice(0)) await listener.close();
  for (const socket of accepted.splice(0)) socket.destroy();
  guest.close();
});

const guestPort = () => {
  const address = guest.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
};
const toGuest = async (): Promise<Duplex> => {
  const socket = connect({ port: guestPort(), host: '127.0.0.1', allowHalfOpen: true });
  await once(socket, 'connect');
  return socket;
};
const listen = async (connector = toGuest, name = 'vm:1') => {
  const listener = await listenOnFree(name, new Set(), connector, OPTIONS);
  listeners.push(listener);
  return listener;
};
const dial = (port: number) => connect({ port, host: '127.0.0.1', allowHalfOpen: true });
/** A client that notices the end: it reads, and closes when the other side has closed. */
const reader = (port: number) => {
  const client = connect({ port, host: '127.0.0.1' });
  client.on('error', () => undefined).resume();
  return client;
};

describe('a listener of a VM', () => {
  it('carries both directions, each with an end of its own', async () => {
    guest.on('connection', (socket) => void text(socket).then((said) => socket.end(`heard ${said.length}`)));
    const client = dial((await listen()).port);
    client.end('x'.repeat(3_000_000));
    expect(await text(client)).toBe('heard 3000000');
  });

  it('the service may end first and still hear the client', async () => {
    const heard = Promise.withResolvers<string>();
    guest.on('connection', (socket) => {
      socket.end('bye');
      void text(socket).then(heard.resolve);
    });
    const client = dial((await listen()).port);
    expect(await text(client)).toBe('bye');
    client.end('after your end');
    expect(await heard.promise).toBe('after your end');
  });

  it('does not read on while the other side does not', async () => {
    let asked = 0;
    const endless = new Duplex({
      highWaterMark: 1024,
      read() {
        asked++;
        this.push(Buffer.alloc(64 * 1024));
      },
      write: (_chunk, _encoding, done) => done(),
    });
    const client = dial((await listen(async () => endless)).port);
    await once(client, 'readable');
    const stuck = async (): Promise<number> => {
      let before = -1;
      // The kernel's buffers take some data; once they are full, nothing more is read.
      while (before !== asked) {
        before = asked;
        for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
      }
      return asked;
    };
    expect(await stuck()).toBeLessThan(1000);
    client.destroy();
  });

  it('closes at once where nobody listens in the guest', async () => {
    const client = reader((await listen(() => Promise.reject(new Error('refused')))).port);
    await once(client, 'close');
    expect(client.bytesRead).toBe(0);
  });

  it('an error in the guest ends the client, and the other way round', async () => {
    const { port } = await listen();
    const client = reader(port);
    const [inGuest] = (await once(guest, 'connection')) as [Socket];
    inGuest.resetAndDestroy();
    await once(client, 'close');
    const second = reader(port);
    const [again] = (await once(guest, 'connection')) as [Socket];
    again.resume().once('end', () => again.end());
    const closed = once(again, 'close');
    second.resetAndDestroy();
    await closed;
  });

  it('has room for so many connections and no more', async () => {
    const listener = await listen();
    const [a, b] = [dial(listener.port), dial(listener.port)];
    await Promise.all([once(a, 'connect'), once(b, 'connect')]);
    const third = reader(listener.port);
    await once(third, 'close');
    expect(listener.connections).toBe(2);
    a.destroy();
    b.destroy();
  });

  it('a port that is taken is PORT_IN_USE, and is free again after close', async () => {
    const first = await listen();
    await expect(listenOn(first.port, toGuest, OPTIONS)).rejects.toMatchObject({ code: 'PORT_IN_USE' });
    await first.close();
    listeners.push(await listenOn(first.port, toGuest, OPTIONS));
  });

  it('close ends open connections', async () => {
    const listener = await listen();
    const client = reader(listener.port);
    await once(guest, 'connection');
    await listener.close();
    if (!client.destroyed) await once(client, 'close');
    expect(listener.connections).toBe(0);
  });

  it('the same name gets the same port, another one where it is promised to somebody', async () => {
    const first = await listen();
    await first.close();
    expect((await listen()).port).toBe(first.port);
    const other = await listenOnFree('vm:1', new Set([first.port]), toGuest, OPTIONS);
    listeners.push(other);
    expect(other.port).not.toBe(first.port);
  });

  it('says so where the whole range is taken', async () => {
    const { port } = await listen();
    const only = { ...OPTIONS, ports: { from: port, to: port } };
    await expect(listenOnFree('vm:2', new Set(), toGuest, only)).rejects.toMatchObject({ code: 'PORT_IN_USE' });
  });
});
