/** One machine of the fleet: everything it owns, put together. Knows nothing of Temporal. */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type {
  BuildStore,
  DriverCapabilities,
  ImageCache,
  RootfsProvisioner,
  ServiceSources,
  VmDriver,
} from '../activities/ports.ts';
import type { HostCapacity } from '../domain/host-entry.ts';
import { storeKeys, workloadIdOf } from '../domain/names.ts';
import { createImageCatalog } from '../rootfs/image/image-catalog.ts';
import { createSparseCopyProvisioner } from '../rootfs/provisioners/sparse-copy.ts';
import { isDrained } from '../store/host-drains.ts';
import type { ObjectStore } from '../store/object-store.ts';
import { createInstanceStore, type InstanceStore } from '../vmm/instance-record.ts';
import { createBuildStore } from './build-store.ts';
import { createCapacityLedger, type HostCapacityLedger, type Reservation } from './capacity-ledger.ts';
import { createDataPlane, type DataPlane } from './data-plane.ts';
import { createEgressDialer, type EgressProxy } from './egress-dialer.ts';
import { createGuestServices, type HostServices } from './guest-services.ts';
import type { HostLogger } from './host-logger.ts';
import { createHostMetrics, type HostMetrics } from './host-metrics.ts';
import { type HostSettingOverrides, type HostSettings, resolveHostSettings } from './host-settings.ts';
import { createHostPool, type PoolMeans } from './pool/host-pool.ts';
import { createPoolMetrics } from './pool/pool-metrics.ts';
import { createPoolPublication } from './pool/pool-publication.ts';
import { claimFor, wakerOf } from './pool/pooled-provisioning.ts';
import type { VmPool } from './pool/vm-pool.ts';
import { createYieldingLedger } from './pool/yielding-ledger.ts';
import { createRefusalNotes } from './refusal-notes.ts';
import { createRegistration, type Registration } from './registration.ts';
import { createServiceSources } from './service-sources.ts';
import { createSweep, type OwnerLookup, type SweepReport } from './sweep.ts';
import { createUploadedSources } from './uploaded-sources.ts';
import { type Adoption, createVmHost, type HostVms } from './vm-host.ts';
import { createWorkloadLogs, type HostLogs } from './workload-logs.ts';

export interface HostOptions {
  readonly hostId: string;
  /** `<home>/host`, absolute. */
  readonly stateDir: string;
  /** The driver's directory of sockets. */
  readonly runtimeDir: string;
  readonly projectRoot: string;
  readonly driver: VmDriver;
  readonly provisioner: RootfsProvisioner;
  readonly images: ImageCache;
  /** Digests of the images on this host; asked before each registration. */
  readonly cachedImages: () => Promise<readonly string[]>;
  readonly store: ObjectStore;
  readonly owners: OwnerLookup;
  /** All that guests and their VMMs may use. */
  readonly capacity: HostCapacity;
  readonly token: string;
  readonly versions: Readonly<Record<string, string>>;
  readonly egressProxy?: EgressProxy;
  /** Addresses of a name that a guest asks for; default: the resolver of this machine. */
  readonly resolveName?: (name: string) => Promise<readonly string[]>;
  /** @returns the digest that an image reference stands for now; default: as the store has it */
  readonly resolveImage?: (reference: string) => Promise<string>;
  /** What the driver can do for a pool beyond a cold boot. */
  readonly poolMeans?: PoolMeans;
  readonly logger: HostLogger;
  readonly settings?: HostSettingOverrides;
}

export interface HostNode {
  readonly hostId: string;
  readonly vms: HostVms;
  readonly services: HostServices;
  readonly ledger: HostCapacityLedger;
  readonly logs: HostLogs;
  readonly sources: ServiceSources;
  readonly builds: BuildStore;
  readonly metrics: HostMetrics;
  readonly dataPlane: DataPlane;
  readonly registration: Registration;
  readonly pool: VmPool;
  /** For tars on their way; emptied at start. */
  readonly scratchDir: string;
  sweep(): Promise<SweepReport>;
  /**
   * Adopts every VM first, then opens the data plane, registers and begins to sweep and ship.
   * @returns base URL of the data plane and what became of each recorded VM
   */
  start(): Promise<{ url: string; adoptions: readonly Adoption[] }>;
  /** Lets go of everything without disturbing a VM. The object is of no use afterwards. */
  detach(): Promise<void>;
}

/** @returns a host; nothing happens until `start`. One a state directory. */
export function createHost(options: HostOptions): HostNode {
  return new Node(options, resolveHostSettings(options.settings));
}

class Node implements HostNode {
  readonly hostId: string;
  readonly vms: HostVms;
  readonly services: HostServices;
  readonly ledger: HostCapacityLedger;
  readonly logs: HostLogs;
  readonly sources: ServiceSources;
  readonly builds: BuildStore;
  readonly metrics: HostMetrics;
  readonly dataPlane: DataPlane;
  readonly registration: Registration;
  readonly pool: VmPool;
  readonly scratchDir: string;
  private readonly options: HostOptions;
  private readonly settings: HostSettings;
  private readonly records: InstanceStore;
  private readonly sweeper: { run(): Promise<SweepReport> };
  private sweepTimer: NodeJS.Timeout | undefined;
  private sweeping: Promise<void> = Promise.resolve();
  private url = '';
  private capabilities: DriverCapabilities | undefined;
  private detached = false;

  constructor(options: HostOptions, settings: HostSettings) {
    const { hostId, stateDir, driver, store, logger } = options;
    this.hostId = hostId;
    this.options = options;
    this.settings = settings;
    this.records = createInstanceStore(stateDir);
    this.scratchDir = join(stateDir, 'tmp');
    this.logs = createWorkloadLogs({ ...settings.logs, stateDir, hostId, store, logger });
    this.vms = this.makeVms();
    this.services = createGuestServices({
      ...settings.logs,
      vms: this.vms,
      logs: this.logs,
      vmDirectory: (vmId) => this.records.directory(vmId),
      logger,
    });
    const { vmOverheadMib } = settings.capacity;
    const hasVm = (reservation: Reservation) => this.hasVm(reservation);
    const ledger = createCapacityLedger({ vmOverheadMib, stateDir, capacity: options.capacity, hasVm });
    this.ledger = createYieldingLedger(ledger, vmOverheadMib, () => this.pool.giveWay());
    this.sources = createServiceSources({
      ...settings.sources,
      projectRoot: options.projectRoot,
      scratchDir: this.scratchDir,
      uploads: createUploadedSources({ ...settings.sources, stateDir, store, logger }),
    });
    this.builds = createBuildStore({ ...settings.builds, stateDir, store, logger });
    this.metrics = createHostMetrics({
      ...settings.metrics,
      stateDir,
      driver,
      ledger: this.ledger,
      vms: this.vms,
      logs: this.logs,
    });
    this.pool = this.makePool(ledger);
    this.dataPlane = createDataPlane(
      { ...settings.dataPlane, hostId, token: options.token, logger },
      { logs: this.logs, metrics: this.metrics.registry },
    );
    this.registration = this.makeRegistration();
    this.sweeper = createSweep({
      ...settings.sweep,
      stateDir,
      runtimeDir: options.runtimeDir,
      driver,
      vms: this.vms,
      ledger: this.ledger,
      owners: options.owners,
      pool: this.pool,
      onAdopted: (vmId) => this.services.resume(vmId),
      logger,
    });
  }

  async sweep(): Promise<SweepReport> {
    const report = await this.sweeper.run();
    this.metrics.noteSweep(report);
    const inUse = new Set<string>();
    for (const vmId of await this.options.driver.list()) {
      const found = await this.options.driver.inspect(vmId).catch(() => undefined);
      // Whose VM a damaged record is cannot be told: then no log is safe to remove.
      if (found === undefined) return report;
      inUse.add(workloadIdOf(found.owner.workflowId) ?? '');
    }
    await this.logs.prune(this.settings.logs.pruneAfterMs, (workloadId) => inUse.has(workloadId));
    return report;
  }

  async start(): Promise<{ url: string; adoptions: readonly Adoption[] }> {
    const { stateDir, driver } = this.options;
    await mkdir(stateDir, { recursive: true, mode: 0o700 });
    // A VM that was being handed out when the process before this one died is its workload's.
    await this.records.finishRenames();
    const adoptions = await this.adopt();
    await this.pool.start();
    // Nobody else writes there, and what an earlier process left is of no use.
    await rm(this.scratchDir, { recursive: true, force: true });
    await mkdir(this.scratchDir, { recursive: true, mode: 0o700 });
    this.capabilities = await driver.probe();
    this.metrics.noteDriver(driver.kind, this.capabilities);
    this.url = await this.dataPlane.listen();
    this.logs.start();
    await this.registration.start();
    this.sweepSoon(0);
    // Warms up beside everything else. From then on a workflow asks for the rounds, so that they can be seen.
    void this.pool.maintain().catch((error: unknown) => {
      this.options.logger.warn({ reason: String(error) }, 'the pool could not be warmed up');
    });
    return { url: this.url, adoptions };
  }

  /** One guest that does not answer must not keep the others, or new work, waiting. */
  private async adopt(): Promise<Adoption[]> {
    const vmIds = await this.ofWorkloads(await this.options.driver.list());
    const late = sleep(this.settings.reattach.startWaitMs, undefined, { ref: false });
    return Promise.all(
      vmIds.map((vmId) =>
        Promise.race([
          this.adoptWithService(vmId),
          late.then(() => ({ vmId, adopted: false, reason: 'it has not answered yet; the host goes on trying' })),
        ]),
      ),
    );
  }

  /** A pooled VM is paused and answers nobody. One whose record is damaged is asked like the others. */
  private async ofWorkloads(vmIds: readonly string[]): Promise<string[]> {
    const roles = await Promise.all(vmIds.map((vmId) => this.records.read(vmId).catch(() => undefined)));
    return vmIds.filter((_, index) => roles[index]?.owner.role !== 'pool');
  }

  private async adoptWithService(vmId: string): Promise<Adoption> {
    const adoption = await this.vms.adopt(vmId);
    if (!adoption.adopted) return adoption;
    try {
      await this.services.resume(vmId);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.options.logger.warn({ vmId, reason }, 'the output of a service is not read until somebody asks for it');
    }
    return adoption;
  }

  async detach(): Promise<void> {
    this.detached = true;
    clearTimeout(this.sweepTimer);
    await this.sweeping;
    await this.registration.stop();
    await this.pool.stop();
    await this.vms.detachAll();
    for (const vmId of await this.options.driver.list()) await this.services.settled(vmId);
    await this.logs.stop();
    await this.dataPlane.close();
  }

  private makeVms(): HostVms {
    const { settings, options } = this;
    const refusals = createRefusalNotes({
      inspect: (vmId) => options.driver.inspect(vmId),
      logs: this.logs,
      perVm: settings.egress.toldRefusals,
    });
    return createVmHost({
      hostId: options.hostId,
      driver: options.driver,
      provisioner: options.provisioner,
      workspaces: createSparseCopyProvisioner(),
      images: options.images,
      records: this.records,
      dialEgress: createEgressDialer({
        ...settings.egress,
        ...(options.egressProxy === undefined ? {} : { proxy: options.egressProxy }),
        ...(options.resolveName === undefined ? {} : { resolve: options.resolveName }),
      }),
      ingress: settings.ingress,
      reattach: settings.reattach,
      logger: options.logger,
      onEgress: (vmId, request, verdict) => {
        this.metrics.noteEgress(verdict);
        if (!verdict.allow) void refusals.note(vmId, request, verdict.reason);
      },
      onReleased: (vmId) => refusals.forget(vmId),
      onBooted: (bootMs) => this.metrics.noteBoot(bootMs),
      claimPooled: (request) => claimFor(this.pool, this.records)(request),
      ...(options.poolMeans?.pausing === undefined ? {} : { wake: wakerOf(options.driver, options.poolMeans.pausing) }),
    });
  }

  private makePool(ledger: HostCapacityLedger): VmPool {
    const { hostId, stateDir, driver, store, logger, poolMeans } = this.options;
    const { records, vms } = this;
    const catalog = createImageCatalog(store);
    return createHostPool({
      ...{ hostId, stateDir, driver, records, vms, ledger, logger },
      settings: this.settings.pool,
      resolveImage: this.options.resolveImage ?? (async (reference) => (await catalog.resolve(reference)).digest),
      notes: createPoolMetrics(this.metrics.registry, () => this.pool.status()),
      ...(poolMeans === undefined ? {} : { means: poolMeans }),
    });
  }

  private makeRegistration(): Registration {
    const { hostId, driver, store, logger } = this.options;
    const publishPool = createPoolPublication(
      () => this.pool.status(),
      async (status) => void (await store.writeDocument(storeKeys.pool(hostId), status)),
    );
    return createRegistration({
      ...this.settings.registration,
      logger,
      publish: async (entry) => {
        await store.writeDocument(storeKeys.host(hostId), entry);
        await publishPool();
      },
      facts: async () => {
        const draining = await isDrained(store, hostId);
        this.pool.rest(draining);
        return {
          hostId,
          url: this.url,
          ...(await this.ledger.totals()),
          images: await this.options.cachedImages(),
          draining,
          driver: this.capabilities === undefined ? driver.kind : `${driver.kind}/${this.capabilities.accel}`,
          versions: { ...this.options.versions, [driver.kind]: this.capabilities?.version ?? 'unknown' },
        };
      },
    });
  }

  /** A reservation is named by the placement, or by the builder VM itself. */
  private async hasVm(reservation: Reservation): Promise<boolean> {
    const vmIds = await this.options.driver.list();
    return vmIds.some((vmId) => vmId === reservation.id || vmId.startsWith(`${reservation.id}-`));
  }

  private sweepSoon(afterMs: number): void {
    if (this.detached) return;
    this.sweepTimer = setTimeout(() => {
      this.sweeping = this.sweep()
        .then(
          () => undefined,
          (error: unknown) => {
            const reason = error instanceof Error ? error.message : String(error);
            this.options.logger.warn({ reason }, 'a sweep failed; nothing was freed');
          },
        )
        .finally(() => this.sweepSoon(this.settings.sweep.everyMs));
    }, afterMs);
  }
}
