/** A ready client for backend services: opens and checks Temporal and the object store. */
import type { WorkloadPolicyOverrides } from '../../domain/policies.ts';
import type { KilnStoreOptions } from '../store/kiln-store.ts';
import type { ClientTimings } from '../temporal/client-timings.ts';
import type { FollowOptions, WorkloadEvent } from '../temporal/follow-workload.ts';
import type { WorkloadClient } from '../temporal/workloads/workload-client.ts';
import type { TemporalOptions } from './open-temporal.ts';
import { withPeers } from './peer-packages.ts';

export interface ConnectKilnOptions {
  readonly temporal: TemporalOptions;
  readonly store: KilnStoreOptions;
  readonly timings?: Partial<ClientTimings>;
  /** Overrides of timeouts and retries for every workload that this client starts. */
  readonly policies?: WorkloadPolicyOverrides;
  /** @returns the page of a workload's logs, shown in the Temporal Web UI. */
  readonly logsUrl?: (workloadId: string) => string;
}

export interface Workloads extends WorkloadClient {
  /**
   * Yields every move between stages and every stored line of the log, in one order, until the workload is over or the
   * signal is aborted. It waits during outages; `after` continues after an earlier event.
   * @throws NOT_FOUND, SPEC_INVALID (cursor); TEMPORAL_UNAVAILABLE, STORE_UNAVAILABLE after `giveUpAfterMs`
   */
  follow(id: string, options?: FollowOptions): AsyncGenerator<WorkloadEvent, void>;
}

export interface Kiln {
  readonly workloads: Workloads;
  /** Closes what `connectKiln` has opened; a Temporal client of the caller stays open. */
  close(): Promise<void>;
}

/**
 * Opens Temporal and the object store, and calls each once.
 * @throws CONFIG_INVALID (a package, the namespace or the prefix is missing or wrong: the message names the fix),
 * TEMPORAL_UNAVAILABLE, STORE_UNAVAILABLE (away, no such bucket, credentials refused), UNAUTHORIZED (by Temporal)
 */
export async function connectKiln(options: ConnectKilnOptions): Promise<Kiln> {
  const { temporal: temporalOptions, store: storeOptions, ...clientOptions } = options;
  const modules = await withPeers(loadModules);
  const store = modules.openKilnStore(storeOptions);
  try {
    const temporal = await opened(modules.openTemporal(temporalOptions), store.check());
    const { archive, logs } = store;
    const workloads = modules.createWorkloadClient({ ...clientOptions, client: temporal.client, archive });
    return {
      workloads: { ...workloads, follow: (id, follow) => modules.followWorkload(workloads, logs, id, follow) },
      close: async () => {
        store.close();
        await temporal.close();
      },
    };
  } catch (error) {
    store.close();
    throw error;
  }
}

/** Modules that import a peer package are loaded only here. */
async function loadModules() {
  const [{ openKilnStore }, { openTemporal }, { createWorkloadClient }, { followWorkload }] = await Promise.all([
    import('../store/kiln-store.ts'),
    import('./open-temporal.ts'),
    import('../temporal/workloads/workload-client.ts'),
    import('../temporal/follow-workload.ts'),
  ]);
  return { openKilnStore, openTemporal, createWorkloadClient, followWorkload };
}

/** Waits for both; if the check fails, closes what was opened. */
async function opened<T extends { close(): Promise<void> }>(opening: Promise<T>, checking: Promise<void>): Promise<T> {
  const [temporal, store] = await Promise.allSettled([opening, checking]);
  if (temporal.status === 'rejected') throw temporal.reason;
  if (store.status === 'fulfilled') return temporal.value;
  await temporal.value.close();
  throw store.reason;
}
