/** Every number of a host that may be set, in one place. */

import { DEFAULT_HOST_PORTS, type PortRange } from '../domain/host-ports.ts';
import type { ImageCollectionLimits } from '../domain/upkeep/image-collection.ts';
import type { InspectionSettings } from '../inspection/inspection-pool.ts';
import type { HostCapacitySettings } from './capacity/host-capacity.ts';
import type { HostPoolSettings } from './pool/pool-settings.ts';
import type { HostLeaseSettings, RunSettings, SaveSettings } from './runs/host-sessions.ts';
import type { TemplateSettings } from './templates/template-store.ts';
import type { ReattachOptions } from './vms/channels.ts';

export interface HostSettings {
  readonly capacity: HostCapacitySettings;
  readonly disks: {
    /** Space kept free on the disk of the VMs, bytes; with less, no new VM is made. */
    readonly freeBytes: number;
  };
  readonly reattach: ReattachOptions & {
    /** How long a start waits for guests to answer, ms; then it goes on without those that have not. */
    readonly startWaitMs: number;
  };
  readonly vmPorts: {
    readonly bindAddress: string;
    readonly urlHost: string;
    /** Ports that may be given out or asked for. */
    readonly ports: PortRange;
    readonly maxConnections: number;
    readonly rebindMs: number;
  };
  readonly egress: {
    readonly resolveMs: number;
    readonly connectMs: number;
    readonly maxAddresses: number;
    /** Names looked up at a time: each look-up blocks a thread, and file operations need threads too. */
    readonly maxLookups: number;
    /** Most different refused connections of one VM that its log names. */
    readonly loggedRefusals: number;
  };
  readonly logs: {
    readonly partBytes: number;
    readonly maxUnshippedBytes: number;
    readonly keepShippedBytes: number;
    readonly flushMs: number;
    readonly shipEveryMs: number;
    /** Longest time a reader is held while it waits for the next line, ms. */
    readonly maxFollowMs: number;
    /** Most readers held at a time: each is a connection of a gateway. */
    readonly maxFollows: number;
    readonly partialLineMs: number;
    readonly tailLines: number;
    readonly maxUnsafeBytes: number;
    readonly guestRingBytes: number;
    readonly reattachPauseMs: number;
    /** Spools of workloads without a VM here are removed after this, ms. */
    readonly pruneAfterMs: number;
  };
  readonly sources: { readonly maxBytes: number; readonly maxEntries: number; readonly maxCacheBytes: number };
  readonly inspection: InspectionSettings;
  readonly builds: { readonly maxCacheBytes: number };
  readonly registration: { readonly everyMs: number };
  readonly sweep: { readonly everyMs: number; readonly graceMs: number; readonly maxDestroys: number };
  readonly metrics: {
    /** How long a guest may take to report its usage before a reading leaves it out, ms. */
    readonly usageMs: number;
  };
  readonly dataPlane: { readonly bindAddress: string; readonly urlHost: string; readonly port: number };
  readonly templates: TemplateSettings;
  readonly images: ImageCollectionLimits;
  readonly pool: HostPoolSettings;
  readonly runs: RunSettings;
  readonly saves: SaveSettings;
  readonly leases: HostLeaseSettings;
}

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const MIB = 1024 * 1024;

export const DEFAULT_HOST_SETTINGS: HostSettings = {
  capacity: { vmOverheadMib: 316, measureEveryMs: 10 * SECOND },
  disks: { freeBytes: 1024 * MIB },
  reattach: {
    attemptMs: 5 * SECOND,
    backoffMs: 50,
    maxBackoffMs: SECOND,
    deadlineMs: 15 * SECOND,
    startWaitMs: 2 * SECOND,
  },
  vmPorts: {
    bindAddress: '127.0.0.1',
    urlHost: '127.0.0.1',
    ports: DEFAULT_HOST_PORTS,
    maxConnections: 1024,
    rebindMs: 200,
  },
  egress: { resolveMs: 5 * SECOND, connectMs: 10 * SECOND, maxAddresses: 3, maxLookups: 2, loggedRefusals: 50 },
  logs: {
    partBytes: 256 * 1024,
    maxUnshippedBytes: 64 * MIB,
    keepShippedBytes: 4 * MIB,
    flushMs: 100,
    shipEveryMs: 5 * SECOND,
    maxFollowMs: 25 * SECOND,
    maxFollows: 1000,
    partialLineMs: SECOND,
    tailLines: 40,
    maxUnsafeBytes: MIB,
    guestRingBytes: 4 * MIB,
    reattachPauseMs: 100,
    pruneAfterMs: 24 * 60 * MINUTE,
  },
  sources: { maxBytes: 256 * MIB, maxEntries: 100_000, maxCacheBytes: 1024 * MIB },
  inspection: {
    children: 2,
    memoryMib: 512,
    // Less than the timeout of the activity that checks a service, so that it learns which limit was exceeded.
    inspect: { cpuMs: 10 * SECOND, wallMs: 25 * SECOND },
    pack: { cpuMs: MINUTE, wallMs: 5 * MINUTE },
    lookEveryMs: 50,
    maxWaiting: 1000,
    maxWaitingPerProject: 250,
    recycleAfter: 500,
    recycleMib: 300,
    startMs: 30 * SECOND,
    restartMs: 100,
    maxRestartMs: 5 * SECOND,
  },
  builds: { maxCacheBytes: 2048 * MIB },
  registration: { everyMs: 2 * SECOND },
  sweep: { everyMs: 30 * SECOND, graceMs: MINUTE, maxDestroys: 5 },
  metrics: { usageMs: SECOND },
  dataPlane: { bindAddress: '127.0.0.1', urlHost: '127.0.0.1', port: 0 },
  templates: { mode: 'auto', freezeMs: MINUTE, cloneMs: 5 * SECOND, handedOutMs: MINUTE, retryMs: MINUTE, max: 12 },
  runs: {
    maxOutputBytes: 64 * MIB,
    maxUnsafeBytes: MIB,
    reattachPauseMs: 100,
    lookAtRestMs: SECOND,
    tellAgainMs: SECOND,
    leftoversMs: SECOND,
    placeMs: 20 * SECOND,
    reservationTtlMs: 2 * MINUTE,
    shipping: { everyMs: 10 * SECOND, chunkBytes: 2 * MIB, keepMs: 24 * 60 * MINUTE },
  },
  saves: { maxCacheBytes: 4096 * MIB, condemnedMs: 10 * MINUTE, keepMs: 24 * 60 * MINUTE },
  leases: { leaseMs: 20 * SECOND, lookMs: 5 * SECOND, askMs: 3 * SECOND, resumeMs: 10 * SECOND },
  images: { keep: 8, idleMs: 24 * 60 * MINUTE },
  pool: {
    limits: { pool_size: 0 },
    warm: [],
    claimWaitMs: 10 * SECOND,
    maxCreating: 2,
    blockedMs: 30 * SECOND,
    yieldToBoots: { maxMs: 2 * SECOND, lookAgainMs: 50 },
    bootMs: 20 * SECOND,
    reservationTtlMs: 2 * MINUTE,
  },
};

/** Any subset of the settings, group by group. */
export type HostSettingOverrides = { readonly [Group in keyof HostSettings]?: Partial<HostSettings[Group]> };

/** @returns the defaults with the overrides applied. */
export function resolveHostSettings(overrides: HostSettingOverrides = {}): HostSettings {
  const d = DEFAULT_HOST_SETTINGS;
  return {
    capacity: { ...d.capacity, ...overrides.capacity },
    disks: { ...d.disks, ...overrides.disks },
    reattach: { ...d.reattach, ...overrides.reattach },
    vmPorts: { ...d.vmPorts, ...overrides.vmPorts },
    egress: { ...d.egress, ...overrides.egress },
    logs: { ...d.logs, ...overrides.logs },
    sources: { ...d.sources, ...overrides.sources },
    inspection: { ...d.inspection, ...overrides.inspection },
    builds: { ...d.builds, ...overrides.builds },
    registration: { ...d.registration, ...overrides.registration },
    sweep: { ...d.sweep, ...overrides.sweep },
    metrics: { ...d.metrics, ...overrides.metrics },
    dataPlane: { ...d.dataPlane, ...overrides.dataPlane },
    templates: { ...d.templates, ...overrides.templates },
    images: { ...d.images, ...overrides.images },
    pool: { ...d.pool, ...overrides.pool },
    runs: { ...d.runs, ...overrides.runs },
    saves: { ...d.saves, ...overrides.saves },
    leases: { ...d.leases, ...overrides.leases },
  };
}
