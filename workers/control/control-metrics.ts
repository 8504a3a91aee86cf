/** Metrics of a control worker: how workloads went, taken from the final states that it writes. */
import { Counter, collectDefaultMetrics, Histogram, Registry } from 'prom-client';
import { isFinal, type Stage } from '../../domain/workload/stages.ts';
import type { WorkloadState } from '../../domain/workload/workload.ts';
import type { WorkloadDocuments } from '../../ports/documents.ts';

const STAGE_SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 86_400];
const DISPATCH_SECONDS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60];

export interface ControlMetrics {
  readonly registry: Registry;
  /** A workload's first activity runs, this long after its request was accepted. */
  noteDispatched(latencyMs: number): void;
  /** A workload has come to its end. */
  noteEnded(state: WorkloadState): void;
}

export function createControlMetrics(): ControlMetrics {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry, prefix: 'kiln_control_' });
  const dispatch = new Histogram({
    name: 'kiln_dispatch_seconds',
    help: 'From the acceptance of a request to the start of its first activity.',
    buckets: DISPATCH_SECONDS,
    registers,
  });
  const ends = new Counter({
    name: 'kiln_workload_ends_total',
    help: 'Workloads that came to their end: outcome, code of the failure, stage they were in.',
    labelNames: ['outcome', 'code', 'stage'],
    registers,
  });
  const stages = new Histogram({
    name: 'kiln_workload_stage_seconds',
    help: 'Time in a stage, and how it was left: passed, stopped or failed.',
    labelNames: ['stage', 'result'],
    buckets: STAGE_SECONDS,
    registers,
  });
  const vmReady = new Histogram({
    name: 'kiln_workload_vm_ready_seconds',
    help: "From the request to the guest's first answer.",
    buckets: STAGE_SECONDS,
    registers,
  });
  const unreleased = new Counter({
    name: 'kiln_workload_unreleased_total',
    help: 'Resources that could not be freed in time when their workload ended.',
    registers,
  });
  return {
    registry,
    noteDispatched: (latencyMs) => dispatch.observe(Math.max(0, latencyMs) / 1000),
    noteEnded(state) {
      const last = state.moves.at(-1);
      if (last === undefined || !isFinal(state.stage)) return;
      ends.inc({ outcome: state.stage, code: state.failure?.code ?? '', stage: last.from });
      for (const { stage, result, ms } of stagesPassed(state)) stages.observe({ stage, result }, ms / 1000);
      if (state.vmReadyMs !== undefined) vmReady.observe(state.vmReadyMs / 1000);
      unreleased.inc(state.unreleased.length);
    },
  };
}

/** @returns documents that report each end to the metrics once it is written. */
export function measuredDocuments(documents: WorkloadDocuments, metrics: ControlMetrics): WorkloadDocuments {
  return {
    readSpec: (id, hash) => documents.readSpec(id, hash),
    async writeResult(state) {
      await documents.writeResult(state);
      metrics.noteEnded(state);
    },
  };
}

interface PassedStage {
  readonly stage: Stage;
  readonly result: 'passed' | 'stopped' | 'failed';
  readonly ms: number;
}

function stagesPassed({ createdAt, moves }: WorkloadState): PassedStage[] {
  return moves.map(({ from, to, at }, index) => {
    const result = to === 'failed' || to === 'stopped' ? to : 'passed';
    return { stage: from, result, ms: Math.max(0, Date.parse(at) - Date.parse(moves[index - 1]?.at ?? createdAt)) };
  });
}
