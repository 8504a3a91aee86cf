/** Listeners of the host that lead to ports in guests: TCP through the agent, with half-closes and back-pressure. */

import { createServer, type Server, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { joinStreams } from '../../concurrency/join-streams.ts';
import { KilnError } from '../../domain/failures.ts';
import type { PortRange } from '../../domain/host-ports.ts';
import { isErrno } from '../../linux/errno.ts';

export interface PortListenerOptions {
  /** Address the listeners are bound to, e.g. `127.0.0.1`. */
  readonly bindAddress: string;
  /** Ports that may be handed out. Must not overlap the range of outgoing connections. */
  readonly ports: PortRange;
  /** Connections of one listener at a time; more are closed at once. */
  readonly maxConnections: number;
}

export interface PortListener {
  readonly port: number;
  readonly connections: number;
  /** Stops listening and ends every connection. Resolves when the port is free. */
  close(): Promise<void>;
}

/** Opens one connection into the guest. */
export type GuestConnector = () => Promise<Duplex>;

/**
 * Listens on exactly this port.
 * @throws PORT_IN_USE where the port is in use, or this process may not use it
 */
export async function listenOn(
  port: number,
  connector: GuestConnector,
  options: PortListenerOptions,
): Promise<PortListener> {
  const open = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true }, (client) => {
    open.add(client);
    client.once('close', () => open.delete(client));
    void tunnel(client, connector);
  });
  server.maxConnections = options.maxConnections;
  await bind(server, port, options.bindAddress);
  return {
    port,
    get connections() {
      return open.size;
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const client of open) client.destroy();
      }),
  };
}

/**
 * Listens on a free port of the range. The search begins at a place that depends on `name`, so that the same name
 * mostly gets the same port.
 * @param taken ports that are promised to others, whether they listen now or not
 * @throws PORT_IN_USE where the whole range is taken
 */
export async function listenOnFree(
  name: string,
  taken: ReadonlySet<number>,
  connector: GuestConnector,
  options: PortListenerOptions,
): Promise<PortListener> {
  const { from, to } = options.ports;
  const size = to - from + 1;
  const start = hashOf(name) % size;
  for (let step = 0; step < size; step++) {
    const port = from + ((start + step) % size);
    if (taken.has(port)) continue;
    try {
      return await listenOn(port, connector, options);
    } catch (error) {
      if (!(error instanceof KilnError) || error.code !== 'PORT_IN_USE') throw error;
    }
  }
  throw new KilnError('PORT_IN_USE', `Every port from ${from} to ${to} is in use on this host.`);
}

function hashOf(name: string): number {
  let hash = 0;
  for (let index = 0; index < name.length; index++) hash = (Math.imul(hash, 31) + name.charCodeAt(index)) >>> 0;
  return hash;
}

function bind(server: Server, port: number, address: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => {
      const inUse = isErrno(error, 'EADDRINUSE', 'EACCES');
      reject(
        inUse
          ? new KilnError('PORT_IN_USE', `Port ${port} of this host is in use; ask for another one, or for none.`, {
              port,
            })
          : error,
      );
    });
    server.listen({ port, host: address }, () => {
      server.removeAllListeners('error');
      // A failing accept (e.g. no file descriptors) must not end the host.
      server.on('error', () => undefined);
      resolve();
    });
  });
}

async function tunnel(client: Socket, connector: GuestConnector): Promise<void> {
  client.on('error', () => client.destroy());
  let guest: Duplex;
  try {
    guest = await connector();
  } catch {
    client.destroy();
    return;
  }
  joinStreams(client, guest);
}
