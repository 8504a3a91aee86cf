import { type NativeConnection, Worker } from '@temporalio/worker';
import { createHostActivities, type HostActivityPorts } from '../activities/host-activities.ts';
import { hostQueue } from '../domain/names.ts';

/**
 * Every running VM has a supervisor that holds a slot for as long as it lives. The reservation, not the slot, is the
 * capacity, so there are more slots than a host could ever have VMs.
 */
const ACTIVITY_SLOTS = 5000;
const POLLERS = 8;

export interface HostWorkerOptions {
  readonly connection: NativeConnection;
  readonly namespace: string;
  readonly hostId: string;
  readonly ports: HostActivityPorts;
  /** Time that running activities get when the worker is told to shut down, ms. VMs are left as they are. */
  readonly shutdownGraceMs: number;
  /** Longest pause between two heartbeats that are really sent; a cancel reaches an activity with them. */
  readonly heartbeatThrottleMs: number;
}

/** Worker of one host's queue: activities only. */
export function createHostWorker(options: HostWorkerOptions): Promise<Worker> {
  return Worker.create({
    connection: options.connection,
    namespace: options.namespace,
    taskQueue: hostQueue(options.hostId),
    activities: createHostActivities(options.ports),
    maxConcurrentActivityTaskExecutions: ACTIVITY_SLOTS,
    maxConcurrentActivityTaskPolls: POLLERS,
    maxHeartbeatThrottleInterval: options.heartbeatThrottleMs,
    defaultHeartbeatThrottleInterval: options.heartbeatThrottleMs,
    shutdownGraceTime: options.shutdownGraceMs,
  });
}
