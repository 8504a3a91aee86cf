import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { PoolStatus } from '../../domain/pool/pool-status.ts';
import type { PoolNotes } from './pool-filling.ts';

const SECONDS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** @returns notes that turn the pool's events into metrics. Each metric is described in docs/metrics.md. */
export function createPoolMetrics(registry: Registry, status: () => PoolStatus): PoolNotes {
  const registers = [registry];
  const claims = new Histogram({
    name: 'kiln_host_pool_claim_seconds',
    help: 'Requests for a pooled VM, from the request to the VM or to the answer that there is none.',
    labelNames: ['result'],
    buckets: SECONDS,
    registers,
  });
  const made = new Histogram({
    name: 'kiln_host_pool_create_seconds',
    help: 'Makings of pooled VMs: cloned from a template, booted cold, or failed.',
    labelNames: ['from'],
    buckets: SECONDS,
    registers,
  });
  const recycled = new Counter({
    name: 'kiln_host_pool_recycled_total',
    help: 'Pooled VMs destroyed without having been of use, by cause.',
    labelNames: ['cause'],
    registers,
  });
  const refreshes = new Counter({
    name: 'kiln_host_pool_templates_total',
    help: 'Templates that pools had made, or failed to.',
    labelNames: ['result'],
    registers,
  });
  addSizes(registers, status);
  return {
    noteClaim: (result, waitedMs) => claims.observe({ result }, waitedMs / 1000),
    noteCreated: (from, tookMs) => made.observe({ from }, tookMs / 1000),
    noteRecycled: (cause) => recycled.inc({ cause }),
    noteRefresh: (result) => refreshes.inc({ result }),
  };
}

function addSizes(registers: Registry[], status: () => PoolStatus): void {
  new Gauge({
    name: 'kiln_host_pool_vms',
    help: 'Pooled VMs by state, and the number that pools are filled up to.',
    labelNames: ['state'],
    registers,
    collect() {
      this.reset();
      const { pools } = status();
      for (const state of ['ready', 'creating', 'target'] as const) {
        this.set(
          { state },
          pools.reduce((sum, pool) => sum + pool[state], 0),
        );
      }
    },
  });
}
