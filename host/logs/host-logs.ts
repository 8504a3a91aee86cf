/** All log spools of this host: opened once each, found again after a restart, read by the data plane. */
import { readdir, rm, rmdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import writeFileAtomic from 'write-file-atomic';
import { z } from 'zod';
import { KilnError } from '../../domain/failures.ts';
import type { NumberedLogEntry } from '../../domain/logs/log-entry.ts';
import { WORKLOAD_ID_PATTERN } from '../../domain/names.ts';
import { hasCode } from '../../linux/process-identity.ts';
import { readRecord } from '../../linux/record-file.ts';
import type { WorkloadLogs } from '../../ports/logs.ts';
import type { HostLogger } from '../host-logger.ts';
import { createLogShipper, type LogShipper, type LogShipperOptions, type SpoolToShip } from './shipper.ts';
import { type LogSpool, type LogSpoolLimits, openLogSpool, type SourceLogWriter } from './spool.ts';

export interface WorkloadLogsOptions extends LogSpoolLimits {
  readonly stateDir: string;
  /** Writer of the entries: the id of this host. */
  readonly hostId: string;
  readonly store: LogShipperOptions['store'];
  /** Pause between two rounds of shipping, ms. */
  readonly shipEveryMs: number;
  readonly logger: HostLogger;
  readonly now?: () => number;
  /** How long a spool is idle: a wall clock that jumps must remove none. Default: the monotonic clock. */
  readonly awake?: () => number;
}

export interface HostLogs extends WorkloadLogs {
  open(workloadId: string, epoch: number): Promise<SourceLogWriter>;
  /** Safe entries of one spool after number `after`; none where this host has no such spool. */
  read(workloadId: string, epoch: number, after: number, limit: number): Promise<readonly NumberedLogEntry[]>;
  /** Epochs of a workload that this host has a spool of, ascending. */
  epochs(workloadId: string): Promise<readonly number[]>;
  /** Bytes that are nowhere but on this host. */
  unshippedBytes(): number;
  /** Removes spools that are shipped, idle for `idleMs` and of no workload that has a VM here. @returns how many */
  prune(idleMs: number, inUse: (workloadId: string) => boolean): Promise<number>;
  /** Begins to ship in the background, also what earlier processes left. */
  start(): void;
  /** Makes everything safe on disk and ends the background work. */
  stop(): Promise<void>;
}

const offsetSchema = z.strictObject({ offset: z.int().min(0) });

/** @returns the spools below `<stateDir>/logs/<workloadId>/<epoch>/`. One process a directory. */
export function createWorkloadLogs(options: WorkloadLogsOptions): HostLogs {
  return new FileLogs(options);
}

class FileLogs implements HostLogs {
  private readonly options: WorkloadLogsOptions;
  private readonly root: string;
  private readonly shipper: LogShipper;
  private readonly spools = new Map<string, Promise<LogSpool>>();
  private readonly opened = new Map<string, SpoolToShip>();
  private foundEarlier = false;

  constructor(options: WorkloadLogsOptions) {
    this.options = options;
    this.root = join(options.stateDir, 'logs');
    this.shipper = createLogShipper({
      store: options.store,
      writer: options.hostId,
      everyMs: options.shipEveryMs,
      logger: options.logger,
    });
  }

  open(workloadId: string, epoch: number): Promise<SourceLogWriter> {
    return this.spool(workloadId, epoch);
  }

  async serviceOffset(workloadId: string, epoch: number): Promise<number> {
    if (!(await exists(this.directory(workloadId, epoch)))) return 0;
    const record = await readRecord(join(this.directory(workloadId, epoch), 'service-offset.json'), offsetSchema);
    return Math.max(record?.offset ?? 0, (await this.spool(workloadId, epoch)).sourceOffset);
  }

  async saveServiceOffset(workloadId: string, epoch: number, offset: number): Promise<void> {
    const spool = await this.spool(workloadId, epoch);
    await spool.flush();
    // The lines know it already, and are the better witnesses: no crash comes between a line and its own offset.
    if (offset <= spool.sourceOffset) return;
    // Not flushed to the platter: a guest does not outlive its machine, so the offset need not either.
    const path = join(this.directory(workloadId, epoch), 'service-offset.json');
    await writeFileAtomic(path, JSON.stringify({ offset }), { encoding: 'utf8', mode: 0o600, fsync: false });
  }

  async ship(workloadId: string, epoch: number): Promise<void> {
    await this.shipper.ship({ workloadId, epoch, spool: await this.spool(workloadId, epoch) });
  }

  async read(workloadId: string, epoch: number, after: number, limit: number): Promise<readonly NumberedLogEntry[]> {
    if (!(await exists(this.directory(workloadId, epoch)))) return [];
    return (await this.spool(workloadId, epoch)).read(after, limit);
  }

  async epochs(workloadId: string): Promise<readonly number[]> {
    assertWorkloadId(workloadId);
    const names = await entriesOf(join(this.root, workloadId));
    return names
      .filter((name) => /^\d{1,9}$/.test(name))
      .map(Number)
      .sort((a, b) => a - b);
  }

  unshippedBytes(): number {
    return [...this.opened.values()].reduce((sum, { spool }) => sum + spool.unshippedBytes, 0);
  }

  async prune(idleMs: number, inUse: (workloadId: string) => boolean): Promise<number> {
    let removed = 0;
    await this.openAll();
    for (const [key, { workloadId, epoch, spool }] of [...this.opened]) {
      if (inUse(workloadId) || spool.idleMs < idleMs || spool.unshippedBytes > 0) continue;
      this.opened.delete(key);
      this.spools.delete(key);
      await rm(this.directory(workloadId, epoch), { recursive: true, force: true });
      // Stays as long as another epoch is in it.
      await rmdir(join(this.root, workloadId)).catch(() => undefined);
      removed++;
    }
    return removed;
  }

  start(): void {
    this.shipper.start(async () => {
      if (!this.foundEarlier) await this.openAll();
      this.foundEarlier = true;
      return [...this.opened.values()];
    });
  }

  async stop(): Promise<void> {
    await this.shipper.stop();
    await Promise.all([...this.opened.values()].map(({ spool }) => spool.flush()));
  }

  private spool(workloadId: string, epoch: number): Promise<LogSpool> {
    const directory = this.directory(workloadId, epoch);
    const key = `${workloadId}/${epoch}`;
    const known = this.spools.get(key);
    if (known !== undefined) return known;
    const opening = openLogSpool({
      ...this.options,
      directory,
      epoch,
      writer: this.options.hostId,
      now: this.options.now ?? Date.now,
    }).then(
      (spool) => {
        this.opened.set(key, { workloadId, epoch, spool });
        return spool;
      },
      (error: unknown) => {
        this.spools.delete(key);
        throw error;
      },
    );
    this.spools.set(key, opening);
    return opening;
  }

  private async openAll(): Promise<void> {
    for (const workloadId of await entriesOf(this.root)) {
      if (!WORKLOAD_ID_PATTERN.test(workloadId)) continue;
      for (const epoch of await this.epochs(workloadId)) await this.spool(workloadId, epoch);
    }
  }

  private directory(workloadId: string, epoch: number): string {
    assertWorkloadId(workloadId);
    if (!Number.isSafeInteger(epoch) || epoch < 0) throw new KilnError('SPEC_INVALID', `${epoch} is no epoch.`);
    return join(this.root, workloadId, String(epoch));
  }
}

function assertWorkloadId(workloadId: string): void {
  if (!WORKLOAD_ID_PATTERN.test(workloadId)) {
    throw new KilnError('SPEC_INVALID', `"${workloadId.slice(0, 64)}" is no workload id.`);
  }
}

async function entriesOf(path: string): Promise<string[]> {
  try {
    return await readdir(path);
  } catch (error) {
    if (hasCode(error, 'ENOENT') || hasCode(error, 'ENOTDIR')) return [];
    throw error;
  }
}

function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
