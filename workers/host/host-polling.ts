import { resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from '@temporalio/client';
import type { Logger } from 'pino';
import type { HostActivityPorts } from '../../activities/host-activities.ts';
import { ensurePoolWorkflow } from '../../client/temporal/pool/pool-workflow.ts';
import type { KilnEnvironment } from '../../config/environment.ts';
import { readRegistrySettings } from '../../host/builds/npm-settings.ts';
import { createPipSettings } from '../../host/builds/pip-settings.ts';
import type { Host } from '../../host/host.ts';
import type { TellSleep } from '../../host/runs/drain-sleep.ts';
import type { TellVmGone } from '../../host/runs/vm-watch.ts';
import type { OwnerLookup } from '../../host/upkeep/sweep.ts';
import type { ObjectStore } from '../../store/object-store.ts';
import { createWorkloadDocuments } from '../../store/workloads/workload-documents.ts';
import { connectClient, connectWorker } from '../../temporal/connection.ts';
import { namespaceId } from '../../temporal/namespace.ts';
import { HOST_PATIENCE, temporalFromEnvironment } from '../temporal-from-environment.ts';
import { installRuntime } from '../temporal-runtime.ts';
import { createHostWorker } from './host-worker.ts';
import { createOwnerLookup } from './owner-lookup.ts';
import { sleepOverTemporal, vmGoneOverTemporal } from './session-signals.ts';

const NPM_PATIENCE_MS = 30_000;
const PIP_PATIENCE_MS = 30_000;
const SHUTDOWN_GRACE_MS = 500;
const HEARTBEAT_THROTTLE_MS = 1_000;
const CAPACITY_POLL_MS = 500;
const READY_POLL_MS = 100;
const POOL_RETRY_MS = 5_000;

/** What a host asks and tells Temporal by itself. */
export interface ThroughTemporal {
  readonly owners: OwnerLookup;
  readonly tellVmGone: TellVmGone;
  readonly tellSleep: TellSleep;
}

export interface HostPolling {
  readonly env: KilnEnvironment;
  readonly store: ObjectStore;
  readonly log: Logger;
  /** Fires when the process must end. */
  readonly ending: AbortSignal;
  /** Called once Temporal can be asked whose VMs are still needed, and told which have ended. */
  readonly onTemporal: (reached: ThroughTemporal) => void;
}

/** Takes the work of a started host from Temporal until `ending`, then releases the host; its VMs live on. */
export async function pollForHost(host: Host, options: HostPolling): Promise<void> {
  const { env, store, log, ending } = options;
  installRuntime(log);
  const where = temporalFromEnvironment(env);
  const onWaiting = (reason: string) => log.warn({ temporal: where.address, reason }, 'waiting for Temporal');
  const patience = { ...HOST_PATIENCE, signal: ending, onWaiting };
  const client = await connectClient(where, patience);
  const id = await namespaceId(client, where.namespace);
  const temporal = new Client({ connection: client, namespace: where.namespace });
  options.onTemporal({
    owners: createOwnerLookup({ client: temporal, namespaceId: id, hostId: host.hostId }),
    tellVmGone: vmGoneOverTemporal(temporal),
    tellSleep: sleepOverTemporal(temporal),
  });
  // VMs of sessions have waited for this.
  void host.sweep().catch((error: unknown) => log.warn({ reason: String(error) }, 'the first sweep failed'));
  const connection = await connectWorker(where, patience);
  const worker = await createHostWorker({
    connection,
    namespace: where.namespace,
    hostId: host.hostId,
    ports: hostPorts(host, {
      documents: createWorkloadDocuments(store),
      namespaceId: id,
      // Last, because npm is slow and only builds need its answer.
      registries: await registrySettings(env),
      pip: pipSettings(env),
    }),
    shutdownGraceMs: SHUTDOWN_GRACE_MS,
    heartbeatThrottleMs: HEARTBEAT_THROTTLE_MS,
    metrics: host.metrics.registry,
    onBuild: (result, buildMs) => host.metrics.noteBuild(result, buildMs),
  });
  ending.addEventListener('abort', () => worker.shutdown(), { once: true });
  if (ending.aborted) worker.shutdown();
  void keepPoolInOrder(host, temporal, log, ending);
  await worker.run();
  await host.detach();
  await connection.close();
  await client.close();
}

/** A pool works without its workflow, which recycles and refreshes: if Temporal does not answer, this retries. */
async function keepPoolInOrder(host: Host, temporal: Client, log: Logger, ending: AbortSignal): Promise<void> {
  while (host.pool.enabled && !ending.aborted) {
    try {
      return await ensurePoolWorkflow(temporal, host.hostId);
    } catch (error) {
      log.warn({ reason: String(error) }, 'the workflow of the pool could not be started; it is tried again');
      await delay(POOL_RETRY_MS, undefined, { signal: ending }).catch(() => undefined);
    }
  }
}

/** @returns what the activities of a host need of it. */
function hostPorts(
  host: Host,
  outside: Pick<HostActivityPorts, 'documents' | 'namespaceId' | 'registries' | 'pip'>,
): HostActivityPorts {
  const { vms, services, ledger, logs, sources, builds, scratchDir, pool, sessions } = host;
  return {
    vms,
    services,
    ledger,
    logs,
    sources,
    builds,
    scratchDir,
    pool,
    sessions,
    ...outside,
    upkeep: host,
    capacityPollMs: CAPACITY_POLL_MS,
    readyPollMs: READY_POLL_MS,
  };
}

function registrySettings(env: KilnEnvironment) {
  return readRegistrySettings({
    npmCommand: ['npm'],
    directory: resolve(env.KILN_PROJECT_ROOT ?? '.'),
    timeoutMs: NPM_PATIENCE_MS,
    caFiles: [env.NODE_EXTRA_CA_CERTS, env.SSL_CERT_FILE].filter((file) => file !== undefined),
    extraEndpoints: [],
  });
}

function pipSettings(env: KilnEnvironment) {
  return createPipSettings({
    pipCommands: [['pip3'], ['pip'], ['python3', '-m', 'pip']],
    directory: resolve(env.KILN_PROJECT_ROOT ?? '.'),
    timeoutMs: PIP_PATIENCE_MS,
    extraEndpoints: [],
  });
}
