/** Orders of this backend. One workload of Kiln carries out each order; the backend itself stores nothing. */
import { isFinal, type WorkloadEvent, type WorkloadSnapshot, type Workloads } from 'kiln-client';

/** The result that this backend gives to its own callers. */
export interface OrderResult {
  readonly orderId: string;
  readonly stage: string;
  readonly done: boolean;
  readonly url?: string;
  readonly exitCode?: number | null;
  readonly error?: { readonly code: string; readonly message: string };
}

export interface Orders {
  /** The same order with the same service is always the same workload: after a lost answer, just call again. */
  start(orderId: string, service: string): Promise<{ order: OrderResult; isNew: boolean }>;
  /** Stages and log lines until the order is done. `after` continues behind an event that was read before. */
  follow(orderId: string, options: { signal: AbortSignal; after?: string }): AsyncGenerator<WorkloadEvent, void>;
  /** Asks the workload to stop and waits up to 30 s; `done` says whether it has stopped. */
  stop(orderId: string): Promise<OrderResult>;
  /** The result for as long as Kiln remembers the order, which is longer than Temporal does. */
  read(orderId: string): Promise<OrderResult>;
}

const STOP_WAIT_MS = 30_000;

export function createOrders(workloads: Workloads): Orders {
  return {
    start: async (orderId, service) => {
      const { snapshot, created } = await workloads.create({ servicePath: service }, workloadIdOf(orderId));
      return { order: resultOf(orderId, snapshot), isNew: created };
    },
    follow: (orderId, options) => workloads.follow(workloadIdOf(orderId), options),
    stop: async (orderId) => {
      const { snapshot } = await workloads.stop(workloadIdOf(orderId), { waitMs: STOP_WAIT_MS, by: 'orders' });
      return resultOf(orderId, snapshot);
    },
    read: async (orderId) => resultOf(orderId, await workloads.get(workloadIdOf(orderId))),
  };
}

/** Ids of workloads are 1 to 40 characters of a-z, 0-9 and -; any other order is refused as SPEC_INVALID. */
function workloadIdOf(orderId: string): string {
  return `order-${orderId}`;
}

function resultOf(orderId: string, { state }: WorkloadSnapshot): OrderResult {
  const { stage, vm, exit, failure } = state;
  return {
    orderId,
    stage,
    done: isFinal(stage),
    ...(vm?.url === undefined || isFinal(stage) ? {} : { url: vm.url }),
    ...(exit === undefined ? {} : { exitCode: exit.code }),
    ...(failure === undefined ? {} : { error: { code: failure.code, message: failure.message } }),
  };
}
