/** A server outside of guests that counts what runs in them do. */
import { once } from 'node:events';
import { createServer } from 'node:http';

export interface CountingServer {
  readonly port: number;
  /** How often a path was asked for. */
  count(path: string): number;
  close(): void;
}

/** Listens on this machine's loopback, at any free port. */
export async function countingServer(): Promise<CountingServer> {
  const counts = new Map<string, number>();
  const server = createServer((request, response) => {
    const path = request.url ?? '';
    counts.set(path, (counts.get(path) ?? 0) + 1);
    response.end(`counted ${counts.get(path)}\n`);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (typeof address !== 'object' || address === null) throw new Error('the server has no port');
  return {
    port: address.port,
    count: (path) => counts.get(path) ?? 0,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}
