/** Metrics of the gateway, in their own registry. docs/metrics.md describes each metric. */
import type { FastifyInstance } from 'fastify';
import { collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { OpenWorkloads } from '../client/temporal/workloads/open-workloads.ts';

const SECONDS = [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

export interface GatewayMetrics {
  readonly registry: Registry;
  /** Receives the number of open log streams. */
  readonly openStreams: (count: number) => void;
  /** Receives the number of requests that wait at hosts for the next line. */
  readonly heldFollows: (count: number) => void;
}

export interface FleetCounts {
  /** Called when the metrics are read; on failure that reading leaves the counts out. */
  readonly openWorkloads: () => Promise<readonly OpenWorkloads[]>;
  /** How long readers share one answer, ms: several scrapers must not load Temporal. */
  readonly keepMs: number;
  readonly now: () => number;
}

/** Counts and times every request by route, never by path: ids would make an unlimited number of series. */
export function gatewayMetrics(server: FastifyInstance, fleet?: FleetCounts): GatewayMetrics {
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
  const follows = new Gauge({
    name: 'kiln_log_follows_open',
    help: 'Requests that wait at hosts for the next line of a log: one for each workload that is streamed',
    registers: [registry],
  });
  if (fleet !== undefined) addFleet(fleet, registry);
  return {
    registry,
    openStreams: (count) => streams.set(count),
    heldFollows: (count) => follows.set(count),
  };
}

/** The same value on every gateway: use one gateway's value or the maximum, never the sum. */
function addFleet({ openWorkloads, keepMs, now }: FleetCounts, registry: Registry): void {
  let kept: { at: number; counts: Promise<readonly OpenWorkloads[]> } | undefined;
  new Gauge({
    name: 'kiln_workloads_open',
    help: 'Workloads that are open now, by stage, and of them those that began longer ago than older_than_s.',
    labelNames: ['stage', 'older_than_s'],
    registers: [registry],
    async collect() {
      if (kept === undefined || now() - kept.at > keepMs) kept = { at: now(), counts: openWorkloads() };
      const counts = await kept.counts.catch(() => []);
      if (counts.length === 0) kept = undefined;
      this.reset();
      for (const { stage, olderThanS, count } of counts) this.set({ stage, older_than_s: olderThanS }, count);
    },
  });
}
