/** One machine of the fleet: creates and connects all its rooms; each gets what it uses. Knows nothing of Temporal. */

import { join } from 'node:path';
import { defined } from '../domain/defined.ts';
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
import { createHostSessions, type HostSessions } from './runs/host-sessions.ts';
import { createGuestServices, type HostServices } from './services/guest-services.ts';
import { createServiceSources } from './sources/service-sources.ts';
import { createUploadedSources } from './sources/uploaded-sources.ts';
import { createTemplates, type Templates } from './templates/template-store.ts';
import { templatesInUse } from './templates/templates-in-use.ts';
import { createFreedNotices, type FreedNotices } from './upkeep/freed-notices.ts';
import { createHostUpkeep, type HostUpkeep } from './upkeep/host-upkeep.ts';
import { createImageSweep } from './upkeep/image-sweep.ts';
import { createSweep, type SweepReport } from './upkeep/sweep.ts';
import { type Adoption, createVmHost, type HostVms } from './vms/vm-host.ts';

export type { HostOptions } from './host-options.ts';

export interface Host {
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
  readonly sessions: HostSessions;
  /** For tars on their way; emptied at start. */
  readonly scratchDir: string;
  /** One at a time; each call starts a new sweep. */
  sweep(): Promise<SweepReport>;
  /** Records, for finished workloads, that this host holds nothing of theirs any more. */
  readonly settleFreed: FreedNotices['settle'];
  /**
   * Adopts every VM first, then opens the data plane, registers and begins to sweep and ship.
   * @returns base URL of the data plane and what became of each recorded VM
   */
  start(): Promise<{ url: string; adoptions: readonly Adoption[] }>;
  /** Closes everything without disturbing a VM. Do not use this object afterwards. */
  detach(): Promise<void>;
}

/** @returns a host; nothing happens until `start`. One per state directory. */
export function createHost(options: HostOptions): Host {
  const basis = basisOf(options);
  const { hostId, stateDir, driver, store, logger, settings, records, scratchDir } = basis;
  // Rooms that call back into later ones do so only once the host has started.
  const logs = createHostLogs({ ...settings.logs, stateDir, hostId, store, logger });
  const capacity = createHostCapacity({
    stateDir,
    driver,
    logger,
    capacity: options.capacity,
    settings: settings.capacity,
  });
  const { memory } = capacity;
  // What pooled VMs hold counts as free for everybody except the pool itself.
  const { vmOverheadMib } = settings.capacity;
  const ledger = createYieldingLedger(capacity.ledger, vmOverheadMib, () => pool.yieldToBoots());
  const templates = templatesOf(basis, ledger, (event) => metrics.noteTemplate(event));
  const leases = () => sessions.leases;
  const heldForLease = () => leases().held;
  const vms: HostVms = vmsOf(basis, { logs, templates, metrics: () => metrics, pool: () => pool, leases });
  const services = createGuestServices({
    ...settings.logs,
    vms,
    logs,
    logger,
    vmDirectory: (vmId) => records.directory(vmId),
  });
  const measured = { stateDir, driver, ledger, memory, vms, logs, heldForLease };
  const metrics: HostMetrics = createHostMetrics({ ...settings.metrics, ...measured });
  const pool: VmPool = poolOf(basis, { ledger: capacity.ledger, templates, vms, metrics });
  const sessions: HostSessions = createHostSessions({
    stateDir,
    ledger,
    usage: (vmId) => driver.usage(vmId),
    vms,
    records,
    store,
    logger,
    tellVmGone: options.tellVmGone ?? (async () => undefined),
    tellSleep: options.tellSleep ?? (async () => undefined),
    onResumed: (ms) => metrics.noteResume(ms),
    settings: settings.runs,
    saveSettings: settings.saves,
    leaseSettings: settings.leases,
    lookup: (owner) => options.owners.lookup(owner),
    measuredSaves: (saves) => metrics.measuredSaves(saves),
  });
  const face = faceOf(basis, { ledger, memory, logs, templates, metrics, pool, sessions });
  const { dataPlane, registration } = face;
  const releases = createFreedNotices({
    hostId,
    stateDir,
    driver,
    ledger,
    runtimeDir: options.runtimeDir,
    records: createWorkloadDocuments(store),
  });
  const upkeep = upkeepOf(basis, { releases, ledger, logs, templates, vms, services, metrics, pool });
  const inspections = createHostInspections(settings.inspection, logger);
  const rooms: HostLifeRooms = {
    stateDir,
    scratchDir,
    driver,
    records,
    vms,
    services,
    logs,
    templates,
    pool,
    sessions,
    metrics,
    logger,
    dataPlane,
    registration,
    upkeep,
    inspections,
    startWaitMs: settings.reattach.startWaitMs,
    onFound: face.onFound,
  };
  return {
    hostId,
    vms,
    services,
    ledger,
    logs,
    metrics,
    dataPlane,
    registration,
    templates,
    pool,
    sessions,
    scratchDir,
    sources: sourcesOf(basis, inspections),
    builds: createBuildStore({ ...settings.builds, stateDir, store, logger }),
    sweep: () => upkeep.sweep(),
    settleFreed: (workloadIds) => releases.settle(workloadIds),
    start: () => startHost(rooms),
    detach: () => detachHost(rooms),
  };
}

/** Shared parts that rooms are made from. Used only in this file: each room gets some of them. */
interface Basis extends Omit<HostOptions, 'settings'> {
  readonly settings: HostSettings;
  readonly records: InstanceStore;
  readonly disks: DrivePorts;
  readonly scratchDir: string;
}

function basisOf(options: HostOptions): Basis {
  const { stateDir, provisioner } = options;
  return {
    ...options,
    settings: resolveHostSettings(options.settings),
    records: createInstanceStore(stateDir),
    disks: { provisioner, workspaces: createSparseCopyProvisioner(), emptyDisks: createEmptyDisks(stateDir) },
    scratchDir: join(stateDir, 'tmp'),
  };
}

/** @returns undefined where the driver starts every guest cold */
function templatesOf(
  basis: Basis,
  ledger: HostCapacityLedger,
  onEvent: (...told: Parameters<HostMetrics['noteTemplate']>) => void,
): Templates | undefined {
  const { driver, stateDir, images, logger, settings, records, disks } = basis;
  if (driver.templates === undefined) return undefined;
  return createTemplates({
    ...disks,
    stateDir,
    images,
    ledger,
    logger,
    onEvent,
    maker: driver.templates,
    inUse: () => templatesInUse(records),
    settings: settings.templates,
    maxAgeMs: resolvePoolSettings(settings.pool.limits).snapshots.max_age,
  });
}

function vmsOf(
  basis: Basis,
  rooms: {
    logs: HostLogs;
    templates: Templates | undefined;
    metrics: () => HostMetrics;
    pool: () => VmPool;
    leases: () => HostSessions['leases'];
  },
): HostVms {
  const { hostId, driver, stateDir, images, logger, settings, records, disks } = basis;
  const { logs, templates } = rooms;
  const egress = createHostEgress({
    settings: settings.egress,
    proxy: basis.egressProxy,
    privateNames: basis.privateNames,
    resolve: basis.resolveName,
    inspect: (vmId) => driver.inspect(vmId),
    logs,
    onVerdict: (verdict) => rooms.metrics().noteEgress(verdict),
  });
  return createVmHost({
    ...disks,
    hostId,
    driver,
    stateDir,
    images,
    records,
    logger,
    ...defined({ templates }),
    freeBytes: settings.disks.freeBytes,
    cloneMs: settings.templates.cloneMs,
    vmPorts: settings.vmPorts,
    reattach: settings.reattach,
    dialEgress: egress.dial,
    onEgress: (vmId, request, verdict) => egress.note(vmId, request, verdict),
    onReleased: (vmId) => egress.forget(vmId),
    onBooted: (bootMs, start, vmId) => {
      rooms.metrics().noteBoot(bootMs, start);
      rooms.leases().begun(vmId);
    },
    mayAct: (vmId) => rooms.leases().stands(vmId),
    claimPooled: (request) => claimFor(rooms.pool(), records)(request),
  });
}

function poolOf(
  basis: Basis,
  rooms: { ledger: HostCapacityLedger; templates: Templates | undefined; vms: HostVms; metrics: HostMetrics },
): VmPool {
  const { hostId, stateDir, driver, store, logger, settings, records } = basis;
  const { ledger, templates, vms, metrics } = rooms;
  const catalog = createImageCatalog(store);
  return createHostPool({
    hostId,
    stateDir,
    driver,
    records,
    vms,
    ledger,
    templates,
    logger,
    settings: settings.pool,
    resolveImage: basis.resolveImage ?? (async (reference) => (await catalog.resolve(reference)).digest),
    means: basis.poolMeans,
    registry: metrics.registry,
  });
}

/** What others see of the host: its data plane, the only room that gets the token, and its entry in the registry. */
function faceOf(
  basis: Basis,
  rooms: {
    ledger: HostCapacityLedger;
    memory: MemoryGauge;
    logs: HostLogs;
    templates: Templates | undefined;
    metrics: HostMetrics;
    pool: VmPool;
    sessions: HostSessions;
  },
): { dataPlane: DataPlane; registration: Registration; onFound: HostLifeRooms['onFound'] } {
  const { hostId, driver, store, logger, settings, token, cachedImages, versions } = basis;
  const { ledger, memory, logs, templates, metrics, pool, sessions } = rooms;
  let found: { url: string; capabilities: DriverCapabilities | undefined } = { url: '', capabilities: undefined };
  return {
    dataPlane: createDataPlane(
      { ...settings.dataPlane, hostId, token, logger },
      {
        logs,
        runs: sessions.runs,
        files: sessions.files,
        metrics: metrics.registry,
        usage: (vmId) => driver.usage(vmId),
      },
    ),
    registration: createHostRegistration({
      hostId,
      store,
      driver,
      ledger,
      memory,
      pool,
      sessions,
      templates,
      cachedImages,
      versions,
      logger,
      found: () => found,
      everyMs: settings.registration.everyMs,
    }),
    onFound: (now) => {
      found = now;
    },
  };
}

function sourcesOf(basis: Basis, inspections: InspectionPool): ServiceSources {
  const { projectRoot, scratchDir, stateDir, store, logger, settings } = basis;
  return createServiceSources({
    ...settings.sources,
    projectRoot,
    scratchDir,
    inspections,
    privateNames: basis.privateNames ?? [],
    uploads: createUploadedSources({ ...settings.sources, stateDir, store, logger }),
  });
}

function upkeepOf(
  basis: Basis,
  rooms: {
    releases: FreedNotices;
    ledger: HostCapacityLedger;
    logs: HostLogs;
    templates: Templates | undefined;
    vms: HostVms;
    services: HostServices;
    metrics: HostMetrics;
    pool: VmPool;
  },
): HostUpkeep {
  const { stateDir, runtimeDir, driver, owners, logger, settings, records, collectImages } = basis;
  const { releases, ledger, logs, templates, vms, services, metrics, pool } = rooms;
  return createHostUpkeep({
    releases,
    templates,
    driver,
    logs,
    logger,
    sweeper: createSweep({
      ...settings.sweep,
      stateDir,
      runtimeDir,
      driver,
      vms,
      ledger,
      owners,
      pool,
      logger,
      onAdopted: (vmId) => services.resume(vmId),
    }),
    sweepImages: createImageSweep({
      stateDir,
      records,
      templates,
      logger,
      limits: settings.images,
      collect: collectImages,
    }),
    pruneAfterMs: settings.logs.pruneAfterMs,
    everyMs: settings.sweep.everyMs,
    onSwept: (report) => metrics.noteSweep(report),
  });
}
