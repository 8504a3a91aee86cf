/** A workload as the API shows it. */
import { z } from 'zod';
import { DEFAULT_PRIORITY } from '../../domain/capacity/priority.ts';
import type { LogEntry } from '../../domain/logs/log-entry.ts';
import { isFinal } from '../../domain/workload/stages.ts';
import { DEFAULT_IMAGE, type WorkloadState } from '../../domain/workload/workload.ts';
import { type VmUsageView, vmUsageSchema } from '../host/vm-usage.ts';
import {
  deploymentIdSchema,
  failureCodeSchema,
  isoTimeSchema,
  portSchema,
  prioritySchema,
  projectIdSchema,
  servicePathSchema,
  stageSchema,
  workloadIdSchema,
} from '../identifiers.ts';
import {
  leavingSchema,
  serviceExitSchema,
  stageMoveSchema,
  unreleasedSchema,
  waitingSchema,
} from '../store/workload-documents.ts';
import { logEntrySchema } from './log-page.ts';

export const unreleasedViewSchema = unreleasedSchema.extend({
  freedAt: isoTimeSchema
    .exactOptional()
    .meta({ description: 'When it was proven gone; absent: it may still be held.' }),
});

export const workloadViewSchema = z.object({
  id: workloadIdSchema,
  deploymentId: deploymentIdSchema.exactOptional(),
  projectId: projectIdSchema.exactOptional(),
  servicePath: servicePathSchema,
  stage: stageSchema,
  leaving: leavingSchema.exactOptional().meta({ description: 'Its end is decided; what it held is being released.' }),
  waiting: waitingSchema
    .exactOptional()
    .meta({ description: 'Why nothing happens for now, and how many workloads are served before it.' }),
  priority: prioritySchema.meta({ description: 'Who is served first where capacity is short: 1 before 5.' }),
  hostId: z.string().exactOptional(),
  containerId: z.string().exactOptional().meta({ description: 'Id of its microVM.' }),
  pid: z.int().exactOptional().meta({ description: 'Process of the microVM on the host.' }),
  port: portSchema.exactOptional(),
  url: z.string().exactOptional(),
  usage: vmUsageSchema.exactOptional().meta({ description: 'What its microVM uses now; only while its host answers.' }),
  image: z.string().meta({ description: 'name@digest once resolved, before that as asked for.' }),
  logs: z.array(logEntrySchema).meta({ description: 'The last lines.' }),
  logsTruncated: z.boolean(),
  error: z.string().exactOptional(),
  failedStage: stageSchema.exactOptional(),
  code: failureCodeSchema.exactOptional(),
  stack: z.string().exactOptional(),
  exit: serviceExitSchema.exactOptional(),
  durationMs: z.number().exactOptional().meta({ description: 'From the request to its end.' }),
  vmReadyMs: z.number().exactOptional().meta({ description: "From the request to the guest's first answer." }),
  transitions: z.array(stageMoveSchema),
  notes: z.array(z.string()).meta({ description: 'What went wrong after the outcome was fixed, or was mended.' }),
  unreleased: z
    .array(unreleasedViewSchema)
    .meta({ description: 'What could not be freed in time; the host goes on trying, and says when it is gone.' }),
  createdAt: isoTimeSchema,
  updatedAt: isoTimeSchema,
  links: z.object({
    self: z.string(),
    history: z.string(),
    logs: z.string(),
    logStream: z.string(),
    temporal: z.string().exactOptional(),
  }),
});
export type WorkloadView = z.infer<typeof workloadViewSchema>;

/** One line of a list: what visibility knows without a query to each workload. */
export const workloadSummarySchema = z.object({
  id: workloadIdSchema,
  stage: stageSchema,
  servicePath: z.string().exactOptional(),
  deploymentId: z.string().exactOptional(),
  projectId: z.string().exactOptional(),
  hostId: z.string().exactOptional(),
  outcome: z.string().exactOptional(),
  attention: z.string().exactOptional(),
  createdAt: isoTimeSchema,
  closedAt: isoTimeSchema.exactOptional(),
});
export type WorkloadSummary = z.infer<typeof workloadSummarySchema>;

export const workloadPageSchema = z.object({ items: z.array(workloadSummarySchema), next: z.string().exactOptional() });
export type WorkloadPage = z.infer<typeof workloadPageSchema>;

export const workloadHistorySchema = z.object({
  id: workloadIdSchema,
  /** Where the events are. Without `events` they are gone, and the moves come from the result. */
  source: z.enum(['temporal', 'archive']),
  stages: z.array(stageSchema),
  moves: z.array(stageMoveSchema),
  /** Events over all executions; absent where Temporal forgot them before they were recorded. */
  events: z.int().exactOptional(),
});
export type WorkloadHistoryView = z.infer<typeof workloadHistorySchema>;

export interface WorkloadViewContext {
  /** Image reference of the request. */
  readonly requestedImage?: string;
  readonly logs?: { readonly entries: readonly LogEntry[]; readonly truncated: boolean };
  /** Hosts that hold nothing of it any more, and when that was proven. */
  readonly releases?: readonly { readonly hostId: string; readonly freedAt: string }[];
  /** What its VM uses now, where its host answered. */
  readonly usage?: VmUsageView;
  /** Page of the workload in the Temporal Web UI. */
  readonly temporalUrl?: string;
}

/** @returns the API shape of a state. Pure. */
export function workloadView(state: WorkloadState, context: WorkloadViewContext = {}): WorkloadView {
  const { vm, failure } = state;
  return {
    id: state.workloadId,
    ...defined({ deploymentId: state.deploymentId, projectId: state.projectId }),
    servicePath: state.servicePath,
    stage: state.stage,
    ...defined({ leaving: state.leaving, waiting: state.waiting }),
    priority: state.priority ?? DEFAULT_PRIORITY,
    ...defined({
      hostId: vm?.hostId,
      containerId: vm?.vmId,
      pid: vm?.pid,
      port: vm?.port,
      url: vm?.url,
      usage: context.usage,
    }),
    image: state.image ? `${state.image.name}@${state.image.digest}` : (context.requestedImage ?? DEFAULT_IMAGE),
    logs: [...(context.logs?.entries ?? [])],
    logsTruncated: context.logs?.truncated ?? false,
    ...defined({
      error: failure?.message,
      failedStage: failure?.stage,
      code: failure?.code,
      stack: failure?.stack,
      exit: state.exit,
      durationMs: durationMs(state),
      vmReadyMs: state.vmReadyMs,
    }),
    transitions: [...state.moves],
    notes: [...state.notes],
    unreleased: state.unreleased.map((left) => {
      const freedAt = context.releases?.find(({ hostId }) => hostId === left.hostId)?.freedAt;
      return freedAt === undefined ? left : { ...left, freedAt };
    }),
    createdAt: state.createdAt,
    updatedAt: state.updatedAt,
    links: linksOf(state.workloadId, context.temporalUrl),
  };
}

function linksOf(id: string, temporalUrl: string | undefined): WorkloadView['links'] {
  const self = `/api/workloads/${id}`;
  return {
    self,
    history: `${self}/history`,
    logs: `${self}/logs`,
    logStream: `${self}/logs/stream`,
    ...defined({ temporal: temporalUrl }),
  };
}

function durationMs(state: WorkloadState): number | undefined {
  if (!isFinal(state.stage)) return undefined;
  return Date.parse(state.moves.at(-1)?.at ?? state.updatedAt) - Date.parse(state.createdAt);
}

/** Leaves out undefined fields: in JSON, an absent field and a field without a value are the same. */
function defined<T extends object>(fields: T): { [Key in keyof T]?: Exclude<T[Key], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as {
    [Key in keyof T]?: Exclude<T[Key], undefined>;
  };
}
