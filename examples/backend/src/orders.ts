/** Orders of this backend, each carried out by one workload of Kiln. Nothing of them is kept here. */
import { isFinal, type WorkloadEvent, type WorkloadSnapshot, type Workloads } from 'kiln-client';

/** What this backend tells its own callers. */
export interface OrderResult {
  readonly orderId: string;
  readonly stage: string;
  readonly done: boolean;
  readonly url?: string;
  readonly exitCode?: number | null;
  readonly error?: { readonly code: string; readonly message: string };
}

export interface Orders {
  /** The same order with the same service, however often, is one workload: a call whose answer was lost is repeated. */
  start(orderId: string, service: string): Promise<{ order: OrderResult; isNew: boolean }>;
  /** Stages and log until the order is done. `after` goes on behind an event that was seen before. */
  follow(orderId: string, options: { signal: AbortSignal; after?: string }): AsyncGenerator<WorkloadEvent, void>;
  /** Asks for the end and waits up to 30 s for it; `done` says whether it was reached. */
  stop(orderId: string): Promise<OrderResult>;
  /** The result, for as long as the order is remembered: also after Temporal has forgotten it. */
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
