/** What a host does for sessions: their runs, and VMs that wait paused between them. */
import { join } from 'node:path';
import { PACK_BYTES, WASTE_BYTES } from '../../contracts/store/save-documents.ts';
import { messageOf } from '../../domain/failures.ts';
import { storeKeys } from '../../domain/names.ts';
import type { OwnerVerdict } from '../../domain/upkeep/sweep-policy.ts';
import type { VmOwner } from '../../domain/vm.ts';
import { bootTimeMs } from '../../linux/boot-time.ts';
import type { CapacityLedger } from '../../ports/host.ts';
import type { SealedRequests, SessionRuns, SessionVms } from '../../ports/runs.ts';
import type { SessionSaves } from '../../ports/saves.ts';
import type { VmDriver } from '../../ports/vm-driver.ts';
import type { ObjectStore } from '../../store/object-store.ts';
import { createRunOutputs } from '../../store/sessions/run-outputs.ts';
import { createRunRequests } from '../../store/sessions/run-requests.ts';
import type { InstanceStore } from '../../vmm/instance-record.ts';
import { createVmFiles, type VmFiles } from '../files/vm-files.ts';
import type { HostLogger } from '../host-logger.ts';
import { createLeaseMarks } from '../leases/lease-marks.ts';
import { createLeaseWord } from '../leases/lease-word.ts';
import { leasedRuns, leasedSaves, leasedVms } from '../leases/leased-session.ts';
import { createSessionLeases, type LeaseSettings, type SessionLeases } from '../leases/session-leases.ts';
import { createSessionSaves } from '../saves/host-saves.ts';
import { createSpoolPruning } from '../saves/spool-pruning.ts';
import type { HostVms } from '../vms/vm-host.ts';
import { createDrainSleep, type TellSleep } from './drain-sleep.ts';
import { createRestingSize } from './resting-size.ts';
import { createRunShipper, type RunShipperOptions } from './run-shipper.ts';
import { createSessionRuns } from './session-runs.ts';
import { createVmWatch, type TellVmGone } from './vm-watch.ts';

export interface HostSessionsOptions {
  readonly stateDir: string;
  readonly vms: Pick<
    HostVms,
    'agent' | 'assertOwner' | 'egressBytes' | 'pause' | 'resume' | 'setEgress' | 'status' | 'waitExit'
  >;
  readonly records: Pick<InstanceStore, 'list' | 'read' | 'directory'>;
  readonly ledger: Pick<CapacityLedger, 'reserve' | 'ahead' | 'freed'>;
  readonly usage: VmDriver['usage'];
  readonly store: ObjectStore;
  readonly logger: HostLogger;
  readonly tellVmGone: TellVmGone;
  readonly tellSleep: TellSleep;
  /** The VM of a session goes on again, so many ms after it could. */
  readonly onResumed: (ms: number) => void;
  readonly settings: RunSettings;
  readonly saveSettings: SaveSettings;
  readonly leaseSettings: HostLeaseSettings;
  /** Asks Temporal whose VM it is. */
  readonly lookup: (owner: VmOwner) => Promise<OwnerVerdict>;
  readonly measuredSaves: (saves: SessionSaves) => SessionSaves;
}

export interface SaveSettings {
  /** Copies of saved files that are kept for restores on this host, bytes. */
  readonly maxCacheBytes: number;
  /** From when a save is dropped until what only it needs is deleted from the store, ms. */
  readonly condemnedMs: number;
  /** What a placement that is over has left unsaved here is kept for so long, ms. */
  readonly keepMs: number;
}

export interface HostLeaseSettings extends LeaseSettings {
  /** How long Temporal, and then the store, may take to say whose VM it is, ms. */
  readonly askMs: number;
  /** How long a guest that goes on may take to answer, ms. */
  readonly resumeMs: number;
}

export interface RunSettings {
  /** Most output of one run that is kept, bytes. */
  readonly maxOutputBytes: number;
  /** Most bytes taken from the guest that a crash of this machine would lose. */
  readonly maxUnsafeBytes: number;
  /** Pause after a lost channel before the next attach to the run, ms. */
  readonly reattachPauseMs: number;
  /** Pause between two looks at whether a VM at rest that an earlier process has started still lives, ms. */
  readonly lookAtRestMs: number;
  /** Pause before an owner that could not be told of the end of its VM is told again, ms. */
  readonly tellAgainMs: number;
  /** Life of a reservation beyond that of its VM, ms. */
  readonly reservationTtlMs: number;
  /** How long a VM that waits for room keeps its place without being asked for again, ms. */
  readonly placeMs: number;
  /** How long what a run has left behind may go on after its exit, ms. */
  readonly leftoversMs: number;
  readonly shipping: Pick<RunShipperOptions, 'everyMs' | 'chunkBytes' | 'keepMs'>;
}

export interface HostSessions {
  readonly runs: SessionRuns;
  readonly vms: SessionVms;
  readonly requests: SealedRequests;
  readonly saves: SessionSaves;
  readonly files: VmFiles;
  readonly leases: Pick<SessionLeases, 'stands' | 'held' | 'begun' | 'look'>;
  /** Looks after the VMs of sessions that an earlier process has left. */
  watchAll(vmIds: readonly string[]): Promise<void>;
  /** Called again and again: a host that takes no new work lets its sessions sleep. */
  rest(draining: boolean): void;
  /** Begins to ship the output of runs. */
  start(): void;
  stop(): Promise<void>;
}

function savesOf({ stateDir, vms, store, logger, saveSettings }: HostSessionsOptions): SessionSaves {
  const { maxCacheBytes, condemnedMs } = saveSettings;
  const agent = (vmId: string) => vms.agent(vmId);
  return createSessionSaves({
    stateDir,
    agent,
    store,
    maxCacheBytes,
    condemnedMs,
    packBytes: PACK_BYTES,
    wasteBytes: WASTE_BYTES,
    clock: Date.now,
    logger,
  });
}

function leasesOf(options: HostSessionsOptions, saves: SessionSaves): SessionLeases {
  const { vms, records, lookup, leaseSettings, logger } = options;
  const { askMs, resumeMs: deadlineMs } = leaseSettings;
  return createSessionLeases({
    ...leaseSettings,
    ownerOf: async (vmId) => (await records.read(vmId))?.owner,
    status: (vmId) => vms.status(vmId),
    ask: createLeaseWord({ lookup, saves, askMs }),
    pause: (vmId) => vms.pause(vmId),
    resume: async (vmId) => {
      await vms.resume(vmId, { deadlineMs, wallClockMs: Date.now });
    },
    marks: createLeaseMarks((vmId) => records.directory(vmId)),
    clock: bootTimeMs,
    logger,
  });
}

export function createHostSessions(options: HostSessionsOptions): HostSessions {
  const { stateDir, vms, records, store, logger, settings } = options;
  const files = createVmFiles(vms);
  const watch = createVmWatch({
    waitExit: (vmId, signal) => vms.waitExit(vmId, { signal, pollMs: settings.lookAtRestMs }),
    records,
    tell: options.tellVmGone,
    retryMs: settings.tellAgainMs,
    logger,
  });
  const drain = createDrainSleep({ records, tell: options.tellSleep, logger });
  const size = createRestingSize({ ...options, ...settings });
  const { keepMs } = options.saveSettings;
  const pruning = createSpoolPruning({ stateDir, records, keepMs, clock: Date.now, logger });
  const directory = join(stateDir, 'runs');
  const shipper = createRunShipper({
    ...settings.shipping,
    directory,
    outputs: createRunOutputs(store),
    // Its key goes first of all, and no session with runs is without one.
    isDeleted: async (session) => (await store.headBlob(storeKeys.sessionKey(session))) === undefined,
    // With its VM, a run has ended, too.
    isOver: async (run) => (await runs.isOver(run)) || (await records.read(run.vmId)) === undefined,
    logger,
  });
  const runs = createSessionRuns({
    ...settings,
    vms,
    vmDirectory: (vmId) => records.directory(vmId),
    outputPath: ({ vmId, turn }) => join(directory, vmId, String(turn)),
    expectOutput: (run, of) => shipper.expect(run, of),
    expected: (run) => shipper.expected(run),
    onEnd: (run) => {
      shipper.ship(run).catch((error: unknown) => {
        logger.warn({ ...run, reason: messageOf(error) }, 'the output of a run is shipped later');
      });
    },
  });
  const saves = options.measuredSaves(savesOf(options));
  const leases = leasesOf(options, saves);
  const sessionVms: SessionVms = {
    async pause(vmId, signal) {
      await vms.pause(vmId, signal);
      files.interrupt(vmId);
      // Otherwise it holds its full size: that costs room, and nothing else.
      await size.rest(vmId).catch((error: unknown) => {
        logger.warn({ vmId, reason: messageOf(error) }, 'a VM that waits still holds its full size');
      });
      watch.watch(vmId);
    },
    setEgress: (vmId, allow, signal) => vms.setEgress(vmId, { allow, privateAllowed: [] }, signal),
    async resume(vmId, { waitMs, ...more }) {
      more.signal.throwIfAborted();
      await size.wake(vmId, { waitMs, signal: more.signal });
      const begun = performance.now();
      await leases.awake(vmId, () => vms.resume(vmId, { ...more, wallClockMs: Date.now }));
      options.onResumed(performance.now() - begun);
    },
  };
  return {
    runs: leasedRuns(runs, leases),
    vms: leasedVms(sessionVms, leases),
    requests: createRunRequests(store),
    saves: leasedSaves(saves, leases),
    files,
    leases,
    async watchAll(vmIds) {
      for (const vmId of vmIds) {
        const record = await records.read(vmId).catch(() => undefined);
        if (record?.owner.role !== 'session') continue;
        watch.watch(vmId);
        await leases.found(vmId).catch((error: unknown) => {
          logger.warn({ vmId, reason: messageOf(error) }, 'a VM runs without a lease until its next call');
        });
      }
    },
    rest: (draining) => drain.rest(draining),
    start() {
      shipper.start();
      pruning.start();
      leases.start();
    },
    async stop() {
      watch.end();
      await Promise.all([pruning.stop(), leases.stop(), drain.settled()]);
      await shipper.stop();
    },
  };
}
