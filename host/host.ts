/** One machine of the fleet: everything it owns, put together. Each room is handed what it uses. Knows nothing of Temporal. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { storeKeys, workloadIdOf } from '../domain/names.ts';
import { ownerWorkflowId } from '../domain/owner.ts';
import { resolvePoolSettings } from '../domain/pool/pool-policy.ts';
import type { InspectionPool } from '../inspection/inspection-pool.ts';
import type { BuildStore, ServiceSources } from '../ports/builds.ts';
import type { DriverCapabilities } from '../ports/vm-driver.ts';
import { createImageCatalog } from '../rootfs/image/image-catalog.ts';
import { createEmptyDisks } from '../rootfs/provisioners/empty-disks.ts';
import { createSparseCopyProvisioner } from '../rootfs/provisioners/sparse-copy.ts';
import { createWorkloadDocuments } from '../store/workloads/workload-documents.ts';
import { createInstanceStore, type InstanceStore } from '../vmm/instance-record.ts';
import { createBuildStore } from './builds/build-store.ts';
import { createHostCapacity } from './capacity/host-capacity.ts';
import type { HostCapacityLedger } from './capacity/ledger.ts';
import type { MemoryGauge } from './capacity/memory-gauge.ts';
import type { DrivePorts } from './disks/drives.ts';
import { createHostEgress } from './egress/host-egress.ts';
import { createDataPlane, type DataPlane } from './face/data-plane.ts';
import { createHostMetrics, type HostMetrics } from './face/host-metrics.ts';
import { createHostRegistration } from './face/host-registration.ts';
import type { Registration } from './face/registration.ts';
import { detachHost, type HostLifeRooms, startHost } from './host-life.ts';
import type { HostOptions } from './host-options.ts';
import { type HostSettings, resolveHostSettings } from './host-settings.ts';
import { createHostInspections } from './inspections.ts';
import { createHostLogs, type HostLogs } from './logs/host-logs.ts';
import { createHostPool } from './pool/host-pool.ts';
import { claimFor } from './pool/pooled-provisioning.ts';
import type { VmPool } from './pool/vm-pool.ts';
import { createYieldingLedger } from './pool/yielding-ledger.ts';
import { createGuestServices, type HostServices } from './services/guest-services.ts';
import { createServiceSources } from './sources/service-sources.ts';
import { createUploadedSources } from './sources/uploaded-sources.ts';
import { createTemplates, type Templates } from './templates/template-store.ts';
import { templatesInUse } from './templates/templates-in-use.ts';
import { createReleases, type Releases } from './upkeep/freed-notices.ts';
import { createHostUpkeep, type HostUpkeep } from './upkeep/host-upkeep.ts';
import { createImageSweep } from './upkeep/image-sweep.ts';
import { createSweep, type SweepReport } from './upkeep/sweep.ts';
import { type Adoption, createVmHost, type HostVms } from './vms/vm-host.ts';

export type { HostOptions } from './host-options.ts';

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
  /** Absent where the driver starts every guest cold. */
  readonly templates: Templates | undefined;
  readonly pool: VmPool;
  /** For tars on their way; emptied at start. */
  readonly scratchDir: string;
  /** One at a time; each call sweeps anew. */
  sweep(): Promise<SweepReport>;
  /** Keeps in the archive of which workloads that are over nothing is held here any more. */
  readonly settleReleases: Releases['settle'];
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
  const basis = basisOf(options);
  const { hostId, stateDir, driver, store, logger, settings, records, scratchDir } = basis;
  // Rooms that call back into later ones do so only once the host has started.
  const logs = createWorkloadLogs({ ...settings.logs, stateDir, hostId, store, logger });
  const capacity = createHostCapacity({
    ...{ stateDir, driver, logger },
    capacity: options.capacity,
    settings: settings.capacity,
  });
  const { memory } = capacity;
  // What pooled VMs hold is free to everybody but the pool itself.
  const { vmOverheadMib } = settings.capacity;
  const ledger = createYieldingLedger(capacity.ledger, vmOverheadMib, () => pool.giveWay());
  const templates = templatesOf(basis, ledger, (event) => metrics.noteTemplate(event));
  const vms: HostVms = vmsOf(basis, { logs, templates, metrics: () => metrics, pool: () => pool });
  const services = createGuestServices({
    ...settings.logs,
    ...{ vms, logs, logger },
    vmDirectory: (vmId) => records.directory(vmId),
  });
  const metrics: HostMetrics = createHostMetrics({ ...settings.metrics, stateDir, driver, ledger, memory, vms, logs });
  const pool: VmPool = poolOf(basis, { ledger: capacity.ledger, templates, vms, metrics });
  const face = faceOf(basis, { ledger, memory, logs, templates, metrics, pool });
  const { dataPlane, registration } = face;
  const releases = createReleases({
    ...{ hostId, stateDir, driver, ledger },
    runtimeDir: options.runtimeDir,
    records: createWorkloadDocuments(store),
  });
  const upkeep = upkeepOf(basis, { releases, ledger, logs, templates, vms, services, metrics, pool });
  const rooms: HostLifeRooms = {
    ...{ stateDir, scratchDir, driver, records, vms, services, logs, templates, pool, metrics, logger },
    ...{ dataPlane, registration, upkeep },
    startWaitMs: settings.reattach.startWaitMs,
    onFound: face.onFound,
  };
  return {
    ...{ hostId, vms, services, ledger, logs, metrics, dataPlane, registration, templates, pool, scratchDir },
    sources: sourcesOf(basis),
    builds: createBuildStore({ ...settings.builds, stateDir, store, logger }),
    sweep: () => upkeep.sweep(),
    settleReleases: (workloadIds) => releases.settle(workloadIds),
    start: () => startHost(rooms),
    detach: () => detachHost(rooms),
  };
}

/** What rooms are made of that is no room itself. Stays in this file: a room is handed parts of it. */
interface Basis extends Omit<HostOptions, 'settings'> {
  readonly settings: HostSettings;
  readonly records: InstanceStore;
  readonly disks: DrivePorts;
  readonly scratchDir: string;
  private readonly options: HostOptions;
  private readonly settings: HostSettings;
  private readonly memory: MemoryGauge;
  private readonly records: InstanceStore;
  private readonly workspaces = createSparseCopyProvisioner();
  private readonly emptyDisks: EmptyDisks;
  private readonly releases: Releases;
  private readonly inspections: InspectionPool;
  private readonly imageSweep: () => Promise<void>;
  private readonly sweeper: { run(): Promise<SweepReport> };
  private sweepTimer: NodeJS.Timeout | undefined;
  private sweeping: Promise<unknown> = Promise.resolve();
  private url = '';
  private capabilities: DriverCapabilities | undefined;
  private detached = false;

  constructor(options: HostOptions, settings: HostSettings) {
    const { hostId, stateDir, driver, store, logger } = options;
    this.hostId = hostId;
    this.options = options;
    this.settings = settings;
    this.records = createInstanceStore(stateDir);
    this.emptyDisks = createEmptyDisks(stateDir);
    this.scratchDir = join(stateDir, 'tmp');
    this.logs = createHostLogs({ ...settings.logs, stateDir, hostId, store, logger });
    this.memory = createMemoryGauge({
      driver,
      everyMs: settings.capacity.measureEveryMs,
      logger,
      ...(settings.capacity.floorMib === undefined ? {} : { floorMib: settings.capacity.floorMib }),
    });
    const ledger = createCapacityLedger({
      ...settings.capacity,
      stateDir,
      capacity: options.capacity,
      hasVm: (reservation) => this.hasVm(reservation),
      hasMemory: () => this.memory.allowsMore(),
    });
    this.ledger = createYieldingLedger(ledger, settings.capacity.vmOverheadMib, () => this.pool.giveWay());
    this.templates = this.makeTemplates();
    const kept = { records: this.records, templates: this.templates, limits: settings.images };
    this.imageSweep = createImageSweep({ ...options, ...kept, collect: options.collectImages });
    this.vms = this.makeVms();
    this.services = createGuestServices({
      ...settings.logs,
      vms: this.vms,
      logs: this.logs,
      vmDirectory: (vmId) => this.records.directory(vmId),
      logger,
    });
    this.inspections = createHostInspections(settings.inspection, logger);
    const uploads = createUploadedSources({ ...settings.sources, stateDir, store, logger });
    const { scratchDir, inspections } = this;
    this.sources = createServiceSources({ ...options, ...settings.sources, scratchDir, uploads, inspections });
    this.builds = createBuildStore({ ...settings.builds, stateDir, store, logger });
    this.metrics = createHostMetrics({
      ...settings.metrics,
      stateDir,
      driver,
      ledger: this.ledger,
      memory: this.memory,
      vms: this.vms,
      logs: this.logs,
    });
    this.pool = this.makePool(ledger);
    this.dataPlane = createDataPlane(
      { ...settings.dataPlane, hostId, token: options.token, logger },
      { logs: this.logs, metrics: this.metrics.registry, usage: (vmId) => driver.usage(vmId) },
    );
    this.registration = this.makeRegistration();
    this.releases = createReleases({ ...options, ledger: this.ledger, records: createWorkloadDocuments(store) });
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

  sweep(): Promise<SweepReport> {
    const run = this.sweeping.then(() => this.sweepOnce());
    this.sweeping = run.catch(() => undefined);
    return run;
  }

  settleReleases(workloadIds: readonly string[]): ReturnType<Releases['settle']> {
    return this.releases.settle(workloadIds);
  }

  private async sweepOnce(): Promise<SweepReport> {
    const report = await this.sweeper.run();
    this.metrics.noteSweep(report);
    await this.templates?.collect();
    await this.tellFreed(report);
    await this.imageSweep();
    const inUse = new Set<string>();
    for (const vmId of await this.options.driver.list()) {
      const found = await this.options.driver.inspect(vmId).catch(() => undefined);
      // Whose VM a damaged record is cannot be told: then no log is safe to remove.
      if (found === undefined) return report;
      inUse.add(found.owner.workflowId);
    }
    await this.logs.prune(this.settings.logs.pruneAfterMs, (owner) => inUse.has(ownerWorkflowId(owner)));
    return report;
  }

  /** What cannot be told now is found again by the maintenance, which asks. */
  private async tellFreed({ freedOf }: SweepReport): Promise<void> {
    const workloadIds = freedOf.flatMap((workflowId) => workloadIdOf(workflowId) ?? []);
    await this.settleReleases(workloadIds).catch((error: unknown) => {
      const reason = error instanceof Error ? error.message : String(error);
      this.options.logger.warn({ workloadIds, reason }, 'it is not told yet that these hold nothing here any more');
    });
  }

  async start(): Promise<{ url: string; adoptions: readonly Adoption[] }> {
    const { stateDir, driver } = this.options;
    await mkdir(stateDir, { recursive: true, mode: 0o700 });
    // A VM that was being handed out when the process before this one died is its workload's.
    await this.records.finishRenames();
    const adoptions = await this.adopt();
    await this.pool.start();
    await emptyDirectory(this.scratchDir);
    this.capabilities = await driver.probe();
    this.metrics.noteDriver(driver.kind, this.capabilities);
    this.url = await this.dataPlane.listen();
    this.inspections.start();
    this.logs.start();
    await this.registration.start();
    await this.templates?.start();
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
    // One whose record is damaged has none that could be known.
    await Promise.all(vmIds.map((vmId) => this.vms.promisePorts(vmId).catch(() => undefined)));
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
    await this.templates?.stop();
    await this.registration.stop();
    await this.inspections.stop();
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
      workspaces: this.workspaces,
      emptyDisks: this.emptyDisks,
      freeBytes: settings.disks.freeBytes,
      stateDir: options.stateDir,
      ...(this.templates === undefined ? {} : { templates: this.templates }),
      cloneMs: settings.templates.cloneMs,
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
      onBooted: (bootMs, start) => this.metrics.noteBoot(bootMs, start),
      claimPooled: (request) => claimFor(this.pool, this.records)(request),
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
      means: poolMeans ?? { pausing: driver, ...poolMeansOf(this.templates) },
    });
  }

  private makeTemplates(): Templates | undefined {
    const { templates: settings, pool } = this.settings;
    const { ledger, records, workspaces, emptyDisks } = this;
    return createHostTemplates({
      ...this.options,
      ...{ ledger, records, workspaces, emptyDisks, settings },
      maxAgeMs: resolvePoolSettings(pool.limits).snapshots.max_age,
      onEvent: (event) => this.metrics.noteTemplate(event),
    });
  }

  private makeRegistration(): Registration {
    const { hostId, driver, store, logger } = this.options;
    const publishPool = createPoolPublication(
      () => ({ ...this.pool.status(), templates: this.templates?.list() ?? [] }),
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
          memory: await this.memory.read(),
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
      void this.sweep()
        .catch((error: unknown) => {
          const reason = error instanceof Error ? error.message : String(error);
          this.options.logger.warn({ reason }, 'a sweep failed; nothing was freed');
        })
        .finally(() => this.sweepSoon(this.settings.sweep.everyMs));
    }, afterMs);
  }
}

/** What an earlier process left is of no use. The folder itself stays: on a full disk it could not be made again. */
async function emptyDirectory(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  for (const name of await readdir(path)) await rm(join(path, name), { recursive: true, force: true });
}
