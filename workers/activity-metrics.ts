import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import type { ActivityInterceptorsFactory } from '@temporalio/worker';
import { Gauge, Histogram, type Registry } from 'prom-client';

const SECONDS = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800];

/**
 * Measures every activity that a worker runs, by name and by how it ended: `ok`, `cancelled` or the failure's code.
 * Wrapped around the activity itself, so that a test's or a worker's other interceptors do not change the figures.
 */
export function activityMetrics(registry: Registry): ActivityInterceptorsFactory {
  const registers = [registry];
  const seconds = new Histogram({
    name: 'kiln_activity_seconds',
    help: 'Time that activities took, by name and by how they ended.',
    labelNames: ['activity', 'result'],
    buckets: SECONDS,
    registers,
  });
  const running = new Gauge({
    name: 'kiln_activities_running',
    help: 'Activities that this worker runs now, by name.',
    labelNames: ['activity'],
    registers,
  });
  return ({ info: { activityType: activity } }) => ({
    inbound: {
      async execute(input, next) {
        running.inc({ activity });
        const begun = performance.now();
        const ended = (result: string) => seconds.observe({ activity, result }, (performance.now() - begun) / 1000);
        try {
          const answer = await next(input);
          ended('ok');
          return answer;
        } catch (error) {
          ended(resultOf(error));
          throw error;
        } finally {
          running.dec({ activity });
        }
      },
    },
  });
}

/** Failures carry a code of the failure table as their type, so there are few of them. */
function resultOf(error: unknown): string {
  if (error instanceof CancelledFailure) return 'cancelled';
  return error instanceof ApplicationFailure ? (error.type ?? 'INTERNAL') : 'INTERNAL';
}
