import { chmod, mkdir } from 'node:fs/promises';
import { flushCompileCache } from 'node:module';
import { cpus, hostname, totalmem } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import type { Logger } from 'pino';
import { type KilnEnvironment, ROOT_RUNTIME_DIR, readEnvironment, stackPaths } from '../../config/environment.ts';
import { readSetupRecord } from '../../config/setup-record.ts';
import type { HostCapacity } from '../../domain/capacity/host-entry.ts';
import { KilnError } from '../../domain/failures.ts';
import { createHost, type Host } from '../../host/host.ts';
import { closeToOthers, keepFilesPrivate } from '../../linux/private-files.ts';
import { createImageCache } from '../../rootfs/image/image-cache.ts';
import { listLocalImages } from '../../rootfs/image/local-images.ts';
import { chooseProvisioner } from '../../rootfs/provisioners/choose-provisioner.ts';
import { createEmptyDisks } from '../../rootfs/provisioners/empty-disks.ts';
import type { ObjectStore } from '../../store/object-store.ts';
import { watchLoop } from '../loop-watchdog.ts';
import { endOnFailure, processLifetime, processLogger } from '../process-lifetime.ts';
import { storeFromEnvironment } from '../store-from-environment.ts';
import { defaultHostId, driverFromEnvironment, limitsFromEnvironment } from './driver-from-environment.ts';
import type { HostPolling, ThroughTemporal } from './host-polling.ts';
import { poolFromEnvironment } from './pool-from-environment.ts';

/** Share of the machine's memory that guests may have; the rest is for the system and Kiln's own processes. */
const GUEST_MEMORY_SHARE = 0.75;
/** vCPUs reserved per core. Most services wait most of the time; memory is what runs out. */
const VCPUS_PER_CORE = 8;

/** Runs this machine's host worker until SIGINT or SIGTERM; VMs live on. */
export async function runHostProcess(): Promise<void> {
  keepFilesPrivate();
  const env = readEnvironment();
  const log = processLogger('host', env.KILN_LOG_LEVEL);
  watchLoop({ name: 'host', stuckMs: env.KILN_STUCK_AFTER_S * 1000 });
  const ending = processLifetime(log);
  const store = storeFromEnvironment(env);
  let temporal: ThroughTemporal | undefined;
  const host = await composeHost(env, store, log, {
    owners: {
      lookup: async (owner) => (temporal === undefined ? 'unreadable' : temporal.owners.lookup(owner)),
      openHere: async () => (await temporal?.owners.openHere?.()) ?? new Map(),
    },
    tellVmGone: async (...told) => {
      if (temporal === undefined) throw notYet();
      await temporal.tellVmGone(...told);
    },
    tellSleep: async (owner) => {
      if (temporal === undefined) throw notYet();
      await temporal.tellSleep(owner);
    },
  });
  const onTemporal = (reached: ThroughTemporal) => {
    temporal = reached;
  };
  // The VMs live on.
  await endOnFailure(() => serve(host, { env, store, log, ending, onTemporal }));
  store.close();
}

const notYet = () => new KilnError('TEMPORAL_UNAVAILABLE', 'This host has not reached Temporal yet.');

async function serve(host: Host, around: HostPolling): Promise<void> {
  const { url, adoptions } = await host.start();
  around.log.info({ url, adoptions }, 'host is registered');
  // Services answer again before Temporal is contacted or even its SDK is loaded: a Temporal outage must
  // stop none of them, and loading the SDK takes longer than everything up to here.
  const { pollForHost } = await import('./host-polling.ts');
  // Otherwise, if this process is killed, the next one loses the code it has compiled.
  flushCompileCache();
  await pollForHost(host, around);
}

async function composeHost(
  env: KilnEnvironment,
  store: ObjectStore,
  log: Logger,
  temporal: ThroughTemporal,
): Promise<Host> {
  const setup = readSetupRecord();
  const paths = stackPaths(env, process.getuid?.() ?? 0);
  await mkdir(paths.hostDir, { recursive: true, mode: 0o700 });
  await closeState(paths.hostDir, log);
  await makeSocketsFolder(paths.runtimeDir);
  const hostId = env.KILN_HOST_ID ?? defaultHostId(hostname());
  const limits = await limitsFromEnvironment(env, paths, log);
  const driver = await driverFromEnvironment(env, paths, setup, log, limits);
  const { diskFormats } = await driver.probe();
  const imagesDir = join(paths.hostDir, 'images');
  const images = createImageCache({ imagesDir, localBuildsDir: join(paths.cacheDir, 'images'), store });
  const proxy = env.HTTPS_PROXY ?? env.https_proxy;
  return createHost({
    hostId,
    stateDir: paths.hostDir,
    runtimeDir: paths.runtimeDir,
    projectRoot: resolve(env.KILN_PROJECT_ROOT ?? '.'),
    driver,
    provisioner: await chooseProvisioner(paths.hostDir, diskFormats, {
      emptyDisks: createEmptyDisks(paths.hostDir),
      only: env.KILN_PROVISIONER,
    }),
    images,
    collectImages: images.collect,
    cachedImages: () => listLocalImages(imagesDir),
    store,
    ...temporal,
    capacity: capacityOf(env),
    token: required(env.KILN_HOST_TOKEN, 'KILN_HOST_TOKEN'),
    versions: { node: process.versions.node, agent: setup.agent.key },
    ...(proxy === undefined
      ? {}
      : { egressProxy: { url: proxy, bypass: env.NO_PROXY.split(',').filter((name) => name !== '') } }),
    privateNames: env.KILN_EGRESS_PRIVATE,
    logger: log,
    settings: {
      vmPorts: { ports: env.KILN_HOST_PORTS },
      dataPlane: { port: env.KILN_HOST_PORT },
      templates: { mode: env.KILN_TEMPLATES },
      pool: await poolFromEnvironment(env),
      ...(env.KILN_HOST_FREE_DISK_MIB === undefined
        ? {}
        : { disks: { freeBytes: env.KILN_HOST_FREE_DISK_MIB * 2 ** 20 } }),
      ...(env.KILN_HOST_MEM_FLOOR_MIB === undefined ? {} : { capacity: { floorMib: env.KILN_HOST_MEM_FLOOR_MIB } }),
    },
  });
}

/** Files that VMMs of projects open by descriptor: images and everything else that guests are built on. */
const OPENED_BY_VMMS = ['images', 'templates', 'checkpoints', 'empty-disks'];
/** Anything deeper is in folders that are already closed. */
const MAX_CLOSED_ENTRIES = 50_000;

/** An older Kiln left its state readable for all. */
async function closeState(directory: string, log: Logger): Promise<void> {
  const options = { maxEntries: MAX_CLOSED_ENTRIES, keepFilesIn: OPENED_BY_VMMS };
  const closed = await closeToOthers(directory, options);
  if (closed.changed > 0 || !closed.whole) log.info({ ...closed, directory }, 'state is closed to other users');
}

/** VMMs with their own users pass through this folder to their sockets; it holds nothing else that they can read. */
async function makeSocketsFolder(directory: string): Promise<void> {
  const isRoot = process.getuid?.() === 0;
  await mkdir(directory, { recursive: true, mode: isRoot ? 0o711 : 0o700 });
  if (!isRoot) return;
  await chmod(directory, 0o711);
  if (dirname(directory) === ROOT_RUNTIME_DIR) await chmod(ROOT_RUNTIME_DIR, 0o711);
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
