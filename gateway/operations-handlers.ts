/** Routes about the gateway and the stack as a whole. */
import type { Registry } from 'prom-client';
import type { RecordNow } from '../client/temporal/maintenance/record-now.ts';
import type { Readiness } from '../contracts/api/readiness.ts';
import { KilnError } from '../domain/failures.ts';
import { docsPage } from './docs-page.ts';
import { openApiDocument } from './openapi.ts';
import type { RouteHandlers } from './route-binding.ts';

type ServiceRoutes = 'recordArchive' | 'healthz' | 'readyz' | 'metrics' | 'openapi' | 'docs';

export function serviceHandlers(options: {
  readonly version: string;
  readonly recordNow?: RecordNow;
  readonly metrics: Registry;
  readonly readiness: () => Promise<Readiness>;
}): Pick<RouteHandlers, ServiceRoutes> {
  const document = openApiDocument(options.version);
  const text = JSON.stringify(document);
  const page = docsPage(document);
  return {
    recordArchive: async ({ body: { waitMs } }) => {
      if (options.recordNow === undefined) throw new KilnError('UNSUPPORTED', 'This gateway reaches no archive.');
      const report = await options.recordNow(waitMs);
      return report === undefined ? { status: 202, body: {} } : { status: 200, body: { report } };
    },
    healthz: async () => ({ status: 200, body: { status: 'ok' } }),
    readyz: async () => {
      const body = await options.readiness();
      return { status: body.ready ? 200 : 503, body };
    },
    metrics: async (_input, _request, reply) => {
      void reply.type(options.metrics.contentType);
      return options.metrics.metrics();
    },
    openapi: async (_input, _request, reply) => reply.type('application/json').send(text),
    docs: async (_input, _request, reply) =>
      reply
        .type('text/html; charset=utf-8')
        .header('content-security-policy', "default-src 'none'; style-src 'unsafe-inline'")
        .send(page),
  };
}
