/** Metrics of the gateway, in a registry of its own. */
import type { FastifyInstance } from 'fastify';
import { collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';

const SECONDS = [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

export interface GatewayMetrics {
  readonly registry: Registry;
  /** Told how many log streams are open now. */
  readonly openStreams: (count: number) => void;
}

/** Counts and times every request by route, never by path: ids would make endless series. */
export function gatewayMetrics(server: FastifyInstance): GatewayMetrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, prefix: 'kiln_gateway_' });
  const requests = new Histogram({
    name: 'kiln_http_request_seconds',
    help: 'Time from a request to the end of its answer',
    labelNames: ['method', 'route', 'status'],
    buckets: SECONDS,
    registers: [registry],
  });
  server.addHook('onResponse', async (request, reply) => {
    const route = request.routeOptions.config.route?.path ?? 'none';
    requests.observe({ method: request.method, route, status: reply.statusCode }, reply.elapsedTime / 1000);
  });
  const streams = new Gauge({
    name: 'kiln_log_streams_open',
    help: 'Log streams that are open',
    registers: [registry],
  });
  return { registry, openStreams: (count) => streams.set(count) };
}
