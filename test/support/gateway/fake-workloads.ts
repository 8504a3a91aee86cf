/** Workloads in memory, to test code that uses them. They prove nothing about real workloads. */
import type { WorkloadClient, WorkloadSnapshot } from '../../../client/temporal/workloads/workload-client.ts';
import { canonicalJson } from '../../../contracts/canonical-json.ts';
import { KilnError } from '../../../domain/failures.ts';
import { applyMove } from '../../../domain/workload/reducer.ts';
import { isFinal, type Stage } from '../../../domain/workload/stages.ts';
import type { WorkloadRequest, WorkloadState } from '../../../domain/workload/workload.ts';

export interface FakeWorkloads extends WorkloadClient {
  /** Moves a workload to this stage. */
  move(id: string, to: Stage): void;
  /** Overwrites parts of its state. */
  patch(id: string, patch: Partial<WorkloadState>): void;
  /** Ids of workloads whose workflow still runs in their final stage. */
  readonly closing: Set<string>;
  readonly requests: Map<string, WorkloadRequest>;
}

export function createFakeWorkloads(): FakeWorkloads {
  const states = new Map<string, WorkloadState>();
  const requests = new Map<string, WorkloadRequest>();
  const closing = new Set<string>();
  const at = () => new Date().toISOString();
  const stateOf = (id: string): WorkloadState => {
    const state = states.get(id);
    if (state === undefined) throw new KilnError('NOT_FOUND', `There is no workload ${id}.`);
    return state;
  };
  const snapshot = (id: string): WorkloadSnapshot => ({
    state: stateOf(id),
    requestedImage: 'node',
    execution: { workflowId: `workload/${id}`, executionId: 'execution-1' },
    ...(isFinal(stateOf(id).stage) && !closing.has(id) ? {} : { isOpen: true }),
    origin: 'workflow',
  });
  const move = (id: string, to: Stage) => {
    const state = stateOf(id);
    states.set(id, { ...state, ...applyMove(state, { to, at: at(), cause: 'test' }), updatedAt: at() });
  };
  return {
    requests,
    closing,
    move,
    patch: (id, patch) => void states.set(id, { ...stateOf(id), ...patch }),
    create: async (request, id = 'minted') => {
      const earlier = requests.get(id);
      if (earlier !== undefined && canonicalJson(earlier) !== canonicalJson(request)) {
        throw new KilnError('CONFLICT', `The id ${id} belongs to a workload with another request.`);
      }
      requests.set(id, request);
      if (earlier === undefined) {
        const { servicePath } = request;
        const now = at();
        states.set(id, {
          workloadId: id,
          servicePath,
          stage: 'pending',
          notes: [],
          unreleased: [],
          moves: [],
          createdAt: now,
          updatedAt: now,
        });
      }
      return { snapshot: snapshot(id), created: earlier === undefined };
    },
    get: async (id) => snapshot(id),
    list: async ({ limit }) => ({
      items: [...states.values()]
        .slice(0, limit)
        .map(({ workloadId, stage, createdAt }) => ({ id: workloadId, stage, createdAt })),
    }),
    stop: async (id, { waitMs }) => {
      if (waitMs > 0 && !isFinal(stateOf(id).stage)) move(id, 'stopped');
      return { snapshot: snapshot(id), settled: isFinal(stateOf(id).stage) };
    },
    history: async (id) => {
      const { moves } = stateOf(id);
      return {
        id,
        source: 'temporal',
        stages: ['pending', ...moves.map(({ to }) => to)],
        moves: [...moves],
        events: 10,
      };
    },
  };
}
