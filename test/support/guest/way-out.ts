import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import type { Socket } from 'node:net';
import type { HostOptions } from '../../../host/host-options.ts';

/** A proxy that answers for the whole internet, and a resolver that knows one public and one private name. */
export async function wayOut(): Promise<{ options: Partial<HostOptions>; asked: string[]; close(): void }> {
  const asked: string[] = [];
  const proxy = createHttpServer().on('connect', (request, client: Socket) => {
    asked.push(request.url ?? '');
    client.on('error', () => undefined);
    client.write('HTTP/1.1 200 OK\r\n\r\n');
    client.once('data', () => client.end('HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nfrom outside'));
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  const address = proxy.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  return {
    options: {
      egressProxy: { url: `http://127.0.0.1:${port}`, bypass: [] },
      resolveName: async (name) => (name === 'in.example' ? ['10.0.0.1'] : ['203.0.113.9']),
    },
    asked,
    close: () => proxy.close(),
  };
}
