import { type NativeConnection, Worker, type WorkflowBundle } from '@temporalio/worker';
import type { Registry } from 'prom-client';
import { type ControlPorts, createControlActivities } from '../../activities/control-activities.ts';
import { CONTROL_QUEUE } from '../../domain/names.ts';
import { activityMetrics } from '../activity-metrics.ts';

export interface ControlWorkerOptions {
  readonly connection: NativeConnection;
  readonly namespace: string;
  readonly bundle: WorkflowBundle;
  readonly ports: ControlPorts;
  /** Workflows kept in memory between their tasks; 0 replays every task from the start. */
  readonly maxCachedWorkflows: number;
  /** Time that running activities get when the worker shuts down, ms. */
  readonly shutdownGraceMs: number;
  /** Where the figures of its activities go; absent: nowhere. */
  readonly metrics?: Registry;
}

/** Worker of `kiln-control`: every workflow, and the activities that need no host. Any number may run. */
export function createControlWorker(options: ControlWorkerOptions): Promise<Worker> {
  return Worker.create({
    connection: options.connection,
    namespace: options.namespace,
    taskQueue: CONTROL_QUEUE,
    workflowBundle: options.bundle,
    activities: createControlActivities(options.ports),
    maxCachedWorkflows: options.maxCachedWorkflows,
    shutdownGraceTime: options.shutdownGraceMs,
    ...(options.metrics === undefined ? {} : { interceptors: { activity: [activityMetrics(options.metrics)] } }),
  });
}
