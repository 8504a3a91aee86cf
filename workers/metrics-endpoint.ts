import { createHash, timingSafeEqual } from 'node:crypto';
import { createServer } from 'node:http';
import type { Registry } from 'prom-client';
import { KilnError } from '../domain/failures.ts';

/**
 * Serves `/metrics` of a process that has no other HTTP server, and `/healthz`, which needs no token.
 * @param where.token bearer token that a scraper shows @param where.port 0: any free one
 * @returns its base URL @throws PORT_IN_USE
 */
export async function serveMetrics(
  registry: Registry,
  where: { host: string; port: number; token: string },
): Promise<{ url: string; close(): Promise<void> }> {
  const server = createServer((request, reply) => {
    if (request.url === '/healthz') return void reply.end('ok\n');
    if (request.method !== 'GET' || request.url !== '/metrics') return void reply.writeHead(404).end();
    const given = /^Bearer (\S+)$/i.exec(request.headers.authorization ?? '')?.[1] ?? '';
    if (!timingSafeEqual(digest(given), digest(where.token))) return void reply.writeHead(401).end();
    registry.metrics().then(
      (text) => reply.setHeader('content-type', registry.contentType).end(text),
      () => reply.writeHead(500).end(),
    );
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => {
      reject(new KilnError('PORT_IN_USE', `Metrics cannot be served on port ${where.port}: ${error.message}.`));
    });
    server.listen(where.port, where.host, resolve);
  });
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : where.port;
  return {
    url: `http://${where.host}:${port}`,
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Of one length, so that the time of a comparison reveals neither content nor length. */
function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
