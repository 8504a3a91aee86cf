import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Client, type Connection } from '@temporalio/client';
import type { NativeConnection, Worker, WorkflowBundle } from '@temporalio/worker';
import type { ControlPorts } from '../../../activities/control-activities.ts';
import type { HostActivityPorts } from '../../../activities/host-activities.ts';
import { readEnvironment } from '../../../config/environment.ts';
import { readSetupRecord } from '../../../config/setup-record.ts';
import { defined } from '../../../domain/defined.ts';
import { extraEgressPorts } from '../../../domain/egress/private-names.ts';
import { KilnError } from '../../../domain/failures.ts';
import type { WorkloadPolicyOverrides } from '../../../domain/policies.ts';
import { readRegistrySettings } from '../../../host/builds/npm-settings.ts';
import { createPipSettings } from '../../../host/builds/pip-settings.ts';
import { createHost, type Host } from '../../../host/host.ts';
import type { HostSettingOverrides } from '../../../host/host-settings.ts';
import type { OwnerLookup } from '../../../host/upkeep/sweep.ts';
import { isErrno } from '../../../linux/errno.ts';
import type { RegistrySettings } from '../../../ports/builds.ts';
import type { ImageCache } from '../../../ports/images.ts';
import type { SessionBooks } from '../../../ports/session-books.ts';
import type { VmDriver } from '../../../ports/vm-driver.ts';
import { createImageCache } from '../../../rootfs/image/image-cache.ts';
import { DEFAULT_TAG } from '../../../rootfs/image/image-catalog.ts';
import { readLocalTag } from '../../../rootfs/image/local-images.ts';
import { createQcow2OverlayProvisioner } from '../../../rootfs/provisioners/qcow2-overlay.ts';
import { createSparseCopyProvisioner } from '../../../rootfs/provisioners/sparse-copy.ts';
import { createControlLog } from '../../../store/logs/control-log.ts';
import type { ObjectStore } from '../../../store/object-store.ts';
import { createRunRecords } from '../../../store/sessions/run-records.ts';
import { createSessionHeads } from '../../../store/sessions/saves/heads.ts';
import { createSessionRecords } from '../../../store/sessions/session-records.ts';
import { createStoredSessionBooks } from '../../../store/sessions/stored-session-books.ts';
import { createWaitingLine } from '../../../store/workloads/waiting-line.ts';
import { createWorkloadDocuments } from '../../../store/workloads/workload-documents.ts';
import { bundleWorkflows } from '../../../temporal/workflow-bundle.ts';
import { createFakeDriver, type FakeFault } from '../../../vmm/fake/fake-driver.ts';
import { createQemuDriver } from '../../../vmm/qemu/qemu-driver.ts';
import { createControlMetrics, measuredDocuments } from '../../../workers/control/control-metrics.ts';
import { createControlWorker } from '../../../workers/control/control-worker.ts';
import { createMaintenancePorts } from '../../../workers/control/maintenance-ports.ts';
import { createSessionMetrics, measuredSessionBooks } from '../../../workers/control/session-metrics.ts';
import { createHostWorker } from '../../../workers/host/host-worker.ts';
import { createOwnerLookup } from '../../../workers/host/owner-lookup.ts';
import { sleepOverTemporal, vmGoneOverTemporal } from '../../../workers/host/session-signals.ts';
import { silentLog, testTscRate } from '../host/vm-fixtures.ts';
import { readWorkflowBundle } from '../servers/workflow-bundle.ts';

/** Token of the host's data plane. */
export const HOST_TOKEN = 'a-token-for-tests';
export const SERVICES = fileURLToPath(new URL('../../fixtures/services', import.meta.url));

export interface HarnessOptions {
  readonly policies?: WorkloadPolicyOverrides;
  readonly faultOf?: (vmId: string) => FakeFault | undefined;
  /** Wraps the ports of the host's activities, e.g. in gates or faults. */
  readonly hostPorts?: (ports: HostActivityPorts) => HostActivityPorts;
  readonly controlPorts?: (ports: ControlPorts) => ControlPorts;
  readonly maxCachedWorkflows?: number;
  /** File that exports the workflows; default: those of Kiln. */
  readonly workflowsPath?: string;
  readonly capacity?: { vcpus: number; memMib: number };
  readonly projectRoot?: string;
  readonly hostSettings?: HostSettingOverrides;
  /** Whether there is a second host, `h2`; it is not started. */
  readonly secondHost?: true;
  /** Whether a host worker is started; default true. */
  readonly withHost?: boolean;
  /** `qemu`: real guests of the image that set-up built, and the registries of this machine. Default: `fake`. */
  readonly guests?: 'fake' | 'qemu';
  /** Exact `name:port` entries of guests' connections that may lead to private addresses. Read at each start of the host. */
  readonly privateNames?: readonly string[];
  /** Addresses of the names that guests ask for; default: the resolver of this machine. */
  readonly resolveName?: (name: string) => Promise<readonly string[]>;
  /** What the host hears of Temporal about whose VM it is, and its store; default: the real ones. */
  readonly owners?: (real: OwnerLookup) => OwnerLookup;
  readonly hostStore?: (real: ObjectStore) => ObjectStore;
  /** Prefix in the bucket for all objects of this Kiln. */
  readonly storePrefix?: string;
}

export interface HostSurroundings {
  readonly options: HarnessOptions;
  readonly store: ObjectStore;
  readonly temporal: Client;
  readonly native: NativeConnection;
  readonly namespace: string;
  readonly namespaceId: string;
  readonly directory: string;
  /** Default: `h1`. */
  readonly hostId?: string;
}

/** The host worker of a harness; it can be ended and started again on the same state. */
export class HostRunner {
  readonly stateDir: string;
  readonly runtimeDir: string;
  readonly hostId: string;
  private readonly around: HostSurroundings;
  private running: { host: Host; worker: Worker; ended: Promise<void> } | undefined;

  constructor(around: HostSurroundings) {
    this.around = around;
    this.hostId = around.hostId ?? 'h1';
    this.stateDir = join(around.directory, 'host');
    this.runtimeDir = join(around.directory, 'run');
  }

  /** Resolves once a running host makes no template in the background. */
  async settled(): Promise<void> {
    await this.running?.host.templates?.settled();
  }

  current(): Host {
    if (!this.running) throw new Error('the host is not running');
    return this.running.host;
  }

  async start(): Promise<void> {
    const { store, native, namespace, options } = this.around;
    const host = await this.makeHost();
    await host.start();
    const { vms, services, ledger, logs, sources, builds, scratchDir, pool, sessions } = host;
    const ports: HostActivityPorts = {
      vms,
      services,
      ledger,
      logs,
      sources,
      builds,
      scratchDir,
      pool,
      sessions,
      registries: options.guests === 'qemu' ? await realRegistries() : { endpoints: [], npmrc: '' },
      pip: createPipSettings({
        pipCommands: options.guests === 'qemu' ? [['pip3'], ['pip'], ['python3', '-m', 'pip']] : [],
        directory: SERVICES,
        timeoutMs: 30_000,
        extraEndpoints: [],
      }),
      documents: createWorkloadDocuments(store),
      namespaceId: this.around.namespaceId,
      upkeep: host,
      capacityPollMs: 50,
      readyPollMs: 20,
    };
    const worker = await createHostWorker({
      connection: native,
      namespace,
      hostId: this.hostId,
      ports: options.hostPorts?.(ports) ?? ports,
      shutdownGraceMs: 100,
      heartbeatThrottleMs: 100,
      metrics: host.metrics.registry,
      onBuild: (result, buildMs) => host.metrics.noteBuild(result, buildMs),
    });
    this.running = { host, worker, ended: worker.run() };
  }

  async stop(): Promise<void> {
    if (!this.running) return;
    const { host, worker, ended } = this.running;
    this.running = undefined;
    worker.shutdown();
    await ended;
    await host.detach();
  }

  private async makeHost(): Promise<Host> {
    const { options, store, temporal, directory } = this.around;
    await mkdir(this.runtimeDir, { recursive: true });
    const places = { stateDir: this.stateDir, runtimeDir: this.runtimeDir };
    const real = options.guests === 'qemu';
    const owners = createOwnerLookup({ client: temporal, namespaceId: this.around.namespaceId, hostId: this.hostId });
    return createHost({
      hostId: this.hostId,
      ...places,
      projectRoot: options.projectRoot ?? SERVICES,
      driver: real ? qemuDriver(places, options) : fakeDriver(places, options),
      provisioner: real ? createQcow2OverlayProvisioner() : createSparseCopyProvisioner(),
      images: real ? realImages(this.stateDir, store) : { ensure: async () => fakeImage(directory) },
      cachedImages: async () => [await imageDigest(options, 'node')],
      store: options.hostStore?.(store) ?? store,
      owners: options.owners?.(owners) ?? owners,
      capacity: options.capacity ?? { vcpus: 64, memMib: 65_536 },
      tellVmGone: vmGoneOverTemporal(temporal),
      tellSleep: sleepOverTemporal(temporal),
      token: HOST_TOKEN,
      versions: {},
      logger: { info: () => undefined, warn: () => undefined, error: () => undefined },
      resolveImage: () => imageDigest(options, 'node'),
      ...defined({ privateNames: options.privateNames, resolveName: options.resolveName }),
      settings: { registration: { everyMs: 500 }, sweep: { graceMs: 500, everyMs: 1_000 }, ...options.hostSettings },
    });
  }
}

function fakeDriver(places: { stateDir: string; runtimeDir: string }, options: HarnessOptions): VmDriver {
  return createFakeDriver({
    ...places,
    log: silentLog,
    allowFake: true,
    agentBinary: readSetupRecord().agent.path,
    asRoot: process.getuid?.() === 0,
    egressPorts: extraEgressPorts(options.privateNames ?? []),
    ...(options.faultOf ? { faultOf: options.faultOf } : {}),
  });
}

function qemuDriver(places: { stateDir: string; runtimeDir: string }, { privateNames = [] }: HarnessOptions): VmDriver {
  const egressPorts = extraEgressPorts(privateNames);
  return createQemuDriver({ ...places, log: silentLog, tscKhz: testTscRate, egressPorts });
}

function realImages(stateDir: string, store: ObjectStore): ImageCache {
  const localBuildsDir = join(readSetupRecord().cacheDir, 'images');
  return createImageCache({ imagesDir: join(stateDir, 'images'), localBuildsDir, store });
}

/** The registries that npm on this machine is configured with, as the host worker reads them. */
export function realRegistries(): Promise<RegistrySettings> {
  const env = readEnvironment();
  return readRegistrySettings({
    npmCommand: ['npm'],
    directory: SERVICES,
    timeoutMs: 30_000,
    caFiles: [env.NODE_EXTRA_CA_CERTS, env.SSL_CERT_FILE].filter((file) => file !== undefined),
    extraEndpoints: [],
  });
}

/** An image for VMs that use no disks: guests of the fake driver see the files of the host. */
async function fakeImage(directory: string) {
  const path = join(directory, 'empty.img');
  // Left as it is where it exists: what is remembered of an image holds as long as its file does not change.
  await writeFile(path, 'empty', { flag: 'wx' }).catch((error: unknown) => {
    if (!isErrno(error, 'EEXIST')) throw error;
  });
  return {
    name: 'node',
    digest: FAKE_DIGEST,
    kernelPath: path,
    initrdPath: path,
    rootfsPath: path,
    rootfsBytes: 5,
    workspacePath: path,
    sha256: { kernel: 'none', rootfs: 'none' },
  };
}

/** @returns a control worker that does not run yet, and its metrics */
export async function controlWorkerOf(
  around: Pick<HostSurroundings, 'options' | 'store' | 'native' | 'namespace'> & {
    readonly connection: Connection;
    /** Path of the bundle. */
    readonly workflowBundle: string;
  },
) {
  const { options, store, native, namespace } = around;
  const documents = createWorkloadDocuments(store);
  const controlMetrics = createControlMetrics();
  const client = new Client({ connection: around.connection, namespace });
  const controlPorts: ControlPorts = {
    ...createMaintenancePorts({ client, store }),
    images: {
      resolve: async (reference) => {
        const name = reference.split('@')[0] ?? 'node';
        return { name, digest: await imageDigest(options, name) };
      },
    },
    line: createWaitingLine(store),
    documents: measuredDocuments(documents, controlMetrics),
    controlLog: createControlLog(store),
    sessionBooks: measuredSessionBooks(
      { sessions: createSessionRecords(store), runs: createRunRecords(store), heads: createSessionHeads(store) },
      createSessionMetrics(controlMetrics.registry),
    ),
    now: Date.now,
    onDispatched: (latencyMs) => controlMetrics.noteDispatched(latencyMs),
  };
  const worker = await createControlWorker({
    connection: native,
    namespace,
    bundle: await workflowBundleOf(options, around.workflowBundle),
    ports: options.controlPorts?.(controlPorts) ?? controlPorts,
    maxCachedWorkflows: options.maxCachedWorkflows ?? 100,
    shutdownGraceMs: 100,
    metrics: controlMetrics.registry,
  });
  return { worker, controlMetrics };
}

/** @returns what a client of sessions needs of the store */
export function sessionBooksOf(store: ObjectStore, options: Pick<HarnessOptions, 'guests'>): SessionBooks {
  return createStoredSessionBooks(store, async (reference) => {
    const name = reference.split('@')[0] ?? 'node';
    return { name, digest: await imageDigest(options, name) };
  });
}

/** A test with its own workflows must bundle them itself. */
function workflowBundleOf({ workflowsPath }: HarnessOptions, bundlePath: string): Promise<WorkflowBundle> {
  return workflowsPath === undefined ? readWorkflowBundle(bundlePath) : bundleWorkflows(workflowsPath);
}

/** Real guests boot from the images that set-up built for tests. */
async function imageDigest({ guests }: Pick<HarnessOptions, 'guests'>, name: string): Promise<string> {
  if (guests !== 'qemu') return FAKE_DIGEST;
  const built = await readLocalTag(join(readSetupRecord().cacheDir, 'images'), name, DEFAULT_TAG);
  if (built === undefined) throw new KilnError('IMAGE_MISSING', `there is no image ${name} on this machine`);
  return built.digest;
}

const FAKE_DIGEST = `sha256:${'f'.repeat(64)}`;
