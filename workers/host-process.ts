import { mkdir } from 'node:fs/promises';
import { cpus, hostname, totalmem } from 'node:os';
import { join, resolve } from 'node:path';
import { Client } from '@temporalio/client';
import type { Logger } from 'pino';
import type { HostActivityPorts } from '../activities/host-activities.ts';
import { type KilnEnvironment, readEnvironment, stackPaths } from '../config/environment.ts';
import { readSetupRecord } from '../config/setup-record.ts';
import { KilnError } from '../domain/failures.ts';
import type { HostCapacity } from '../domain/host-entry.ts';
import { createHost, type HostNode } from '../host/host-node.ts';
import { readRegistrySettings } from '../host/registry-settings.ts';
import type { OwnerLookup } from '../host/sweep.ts';
import { createImageCache } from '../rootfs/image/image-cache.ts';
import { listLocalImages } from '../rootfs/image/local-images.ts';
import { chooseProvisioner } from '../rootfs/provisioners/choose-provisioner.ts';
import type { ObjectStore } from '../store/object-store.ts';
import { createWorkloadDocuments } from '../store/workload-documents.ts';
import { connectClient, connectWorker } from '../temporal/connection.ts';
import { namespaceId } from '../temporal/namespace.ts';
import { defaultHostId, driverFromEnvironment } from './driver-from-environment.ts';
import { createHostWorker } from './host-worker.ts';
import { createOwnerLookup } from './owner-lookup.ts';
import { installRuntime, processLifetime, processLogger } from './process-lifetime.ts';
import { storeFromEnvironment } from './store-from-environment.ts';
import { CONNECT_PATIENCE, temporalFromEnvironment } from './temporal-from-environment.ts';

/** Share of the machine's memory that guests may have; the rest is for the system and Kiln's own processes. */
const GUEST_MEMORY_SHARE = 0.75;
/** vCPUs reserved per core. Most services wait most of the time; memory is what runs out. */
const VCPUS_PER_CORE = 8;
const NPM_PATIENCE_MS = 30_000;
const SHUTDOWN_GRACE_MS = 500;
const HEARTBEAT_THROTTLE_MS = 1_000;
const CAPACITY_POLL_MS = 500;
const READY_POLL_MS = 100;

/** Runs this machine's host worker until SIGINT or SIGTERM; VMs live on. */
export async function runHostProcess(): Promise<void> {
  const env = readEnvironment();
  const log = processLogger('host', env.KILN_LOG_LEVEL);
  installRuntime(log);
  const ending = processLifetime(log);
  const where = temporalFromEnvironment(env);
  const store = storeFromEnvironment(env);
  const patience = { ...CONNECT_PATIENCE, signal: ending };
  // Services answer again before Temporal is asked for anything: an outage of it must stop none of them.
  let owners: OwnerLookup | undefined;
  const host = await composeHost(env, store, log, {
    lookup: async (owner) => (owners === undefined ? 'unreadable' : owners.lookup(owner)),
  });
  const { url, adoptions } = await host.start();
  log.info({ url, adoptions }, 'host is registered');
  const client = await connectClient(where, patience);
  const id = await namespaceId(client, where.namespace);
  const temporal = new Client({ connection: client, namespace: where.namespace });
  owners = createOwnerLookup({ client: temporal, namespaceId: id, hostId: host.hostId });
  const connection = await connectWorker(where, patience);
  const worker = await createHostWorker({
    connection,
    namespace: where.namespace,
    hostId: host.hostId,
    ports: hostPorts(host, {
      documents: createWorkloadDocuments(store),
      namespaceId: id,
      // Asked last: npm takes its time, and only builds need its answer.
      registries: await registrySettings(env),
    }),
    shutdownGraceMs: SHUTDOWN_GRACE_MS,
    heartbeatThrottleMs: HEARTBEAT_THROTTLE_MS,
  });
  ending.addEventListener('abort', () => worker.shutdown(), { once: true });
  if (ending.aborted) worker.shutdown();
  await worker.run();
  await host.detach();
  await connection.close();
  await client.close();
  store.close();
}

/** @returns what the activities of a host need of it. */
function hostPorts(
  host: HostNode,
  outside: Pick<HostActivityPorts, 'documents' | 'namespaceId' | 'registries'>,
): HostActivityPorts {
  const { vms, services, ledger, logs, sources, builds, scratchDir } = host;
  return {
    ...{ vms, services, ledger, logs, sources, builds, scratchDir },
    ...outside,
    capacityPollMs: CAPACITY_POLL_MS,
    readyPollMs: READY_POLL_MS,
  };
}

async function composeHost(
  env: KilnEnvironment,
  store: ObjectStore,
  log: Logger,
  owners: OwnerLookup,
): Promise<HostNode> {
  const setup = readSetupRecord();
  const paths = stackPaths(env, process.getuid?.() ?? 0);
  await mkdir(paths.hostDir, { recursive: true, mode: 0o700 });
  await mkdir(paths.runtimeDir, { recursive: true, mode: 0o700 });
  const hostId = env.KILN_HOST_ID ?? defaultHostId(hostname());
  const driver = await driverFromEnvironment(env, paths, setup, log);
  const { diskFormats } = await driver.probe();
  const imagesDir = join(paths.hostDir, 'images');
  const proxy = env.HTTPS_PROXY ?? env.https_proxy;
  return createHost({
    hostId,
    stateDir: paths.hostDir,
    runtimeDir: paths.runtimeDir,
    projectRoot: resolve(env.KILN_PROJECT_ROOT ?? '.'),
    driver,
    provisioner: await chooseProvisioner(paths.hostDir, diskFormats, env.KILN_PROVISIONER),
    images: createImageCache({ imagesDir, localBuildsDir: join(paths.cacheDir, 'images'), store }),
    cachedImages: () => listLocalImages(imagesDir),
    store,
    owners,
    capacity: capacityOf(env),
    token: required(env.KILN_HOST_TOKEN, 'KILN_HOST_TOKEN'),
    versions: { node: process.versions.node, agent: setup.agent.key },
    ...(proxy === undefined
      ? {}
      : { egressProxy: { url: proxy, bypass: env.NO_PROXY.split(',').filter((name) => name !== '') } }),
    logger: log,
    settings: { dataPlane: { port: env.KILN_HOST_PORT } },
  });
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

function capacityOf(env: KilnEnvironment): HostCapacity {
  return {
    vcpus: env.KILN_HOST_VCPUS ?? cpus().length * VCPUS_PER_CORE,
    memMib: env.KILN_HOST_MEM_MIB ?? Math.floor((totalmem() / 2 ** 20) * GUEST_MEMORY_SHARE),
  };
}

function required(value: string | undefined, name: string): string {
  if (value !== undefined) return value;
  throw new KilnError('CONFIG_INVALID', `Set ${name}: the other processes of the stack show it to this host.`);
}
