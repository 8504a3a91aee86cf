import { type NativeConnection, Worker } from '@temporalio/worker';
import type { Registry } from 'prom-client';
import type { HostActivities } from '../../activities/activity-types.ts';
import { createHostActivities, type HostActivityPorts } from '../../activities/host-activities.ts';
import { hostQueue } from '../../domain/names.ts';
import { activityMetrics } from '../activity-metrics.ts';

/**
 * Every running VM has a supervisor that holds a slot as long as the VM lives. The reservation, not the slot, is the
 * capacity, so there are more slots than a host could ever have VMs.
 */
const ACTIVITY_SLOTS = 5000;
const POLLERS = 8;

export interface HostWorkerOptions {
  readonly connection: NativeConnection;
  readonly namespace: string;
  readonly hostId: string;
  readonly ports: HostActivityPorts;
  /** Time that running activities get when the worker shuts down, ms. VMs are not touched. */
  readonly shutdownGraceMs: number;
  /** Where the figures of its activities go; absent: nowhere. */
  readonly metrics?: Registry;
  /** Called after each build: made, found in the cache, or failed. */
  readonly onBuild?: (result: 'built' | 'cached' | 'failed', buildMs: number) => void;
  /** Longest pause between two heartbeats that are really sent; a cancel reaches an activity with them. */
  readonly heartbeatThrottleMs: number;
}

/** Worker of one host's queue: activities only. */
export function createHostWorker(options: HostWorkerOptions): Promise<Worker> {
  const activities = createHostActivities(options.ports);
  return Worker.create({
    connection: options.connection,
    namespace: options.namespace,
    taskQueue: hostQueue(options.hostId),
    activities: {
      ...activities,
      buildService: (input: Parameters<HostActivities['buildService']>[0]) => measuredBuild(activities, options, input),
    },
    maxConcurrentActivityTaskExecutions: ACTIVITY_SLOTS,
    maxConcurrentActivityTaskPolls: POLLERS,
    maxHeartbeatThrottleInterval: options.heartbeatThrottleMs,
    defaultHeartbeatThrottleInterval: options.heartbeatThrottleMs,
    shutdownGraceTime: options.shutdownGraceMs,
    ...(options.metrics === undefined ? {} : { interceptors: { activity: [activityMetrics(options.metrics)] } }),
  });
}

async function measuredBuild(
  activities: HostActivities,
  { onBuild }: HostWorkerOptions,
  input: Parameters<HostActivities['buildService']>[0],
): ReturnType<HostActivities['buildService']> {
  const begun = performance.now();
  try {
    const result = await activities.buildService(input);
    onBuild?.(result.cached ? 'cached' : 'built', performance.now() - begun);
    return result;
  } catch (error) {
    onBuild?.('failed', performance.now() - begun);
    throw error;
  }
}
