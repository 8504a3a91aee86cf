/** All log spools of this host: opened once each, found again after a restart, read by the data plane. */
import { rm, rmdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import writeFileAtomic from 'write-file-atomic';
import { z } from 'zod';
import { createKeyedLock } from '../../concurrency/keyed-lock.ts';
import type { NumberedLogEntry } from '../../domain/logs/log-entry.ts';
import type { LogStage } from '../../domain/logs/log-stage.ts';
import { type LogRef, type OwnerId, ownerWorkflowId } from '../../domain/owner.ts';
import { mayExist } from '../../linux/directory-entries.ts';
import { readStateFile } from '../../linux/state-file.ts';
import type { OwnerLogs } from '../../ports/logs.ts';
import type { HostLogger } from '../host-logger.ts';
import { epochsOf, makeOwnerFolder, ownerFilePath, ownersIn, spoolFolder } from './log-folders.ts';
import { createLogFollows, type FollowAnswer, type FollowRequest, type LogFollows } from './log-follows.ts';
import { createLogShipper, type LogShipper, type LogShipperOptions, type SpoolToShip } from './shipper.ts';
import { type LogSpool, type LogSpoolLimits, type OutputLogWriter, openLogSpool } from './spool.ts';

export interface HostLogsOptions extends LogSpoolLimits {
  readonly stateDir: string;
  /** Writer of the entries: the id of this host. */
  readonly hostId: string;
  readonly store: LogShipperOptions['store'];
  /** Pause between two rounds of shipping, ms. */
  readonly shipEveryMs: number;
  /** Longest time a reader is held while it waits for the next line, ms. */
  readonly maxFollowMs: number;
  /** Most readers held at a time. */
  readonly maxFollows: number;
  readonly logger: HostLogger;
  readonly now?: () => number;
  /** Monotonic ms, for idle time: a wall clock that jumps must remove no spool. Default: the monotonic clock. */
  readonly awake?: () => number;
}

export interface HostLogs extends OwnerLogs {
  open(log: LogRef): Promise<OutputLogWriter>;
  /** Safe entries of one spool after number `after`; none where this host has no such spool. */
  read(log: LogRef, after: number, limit: number): Promise<readonly NumberedLogEntry<LogStage>[]>;
  /** Waits for the next safe entries of an owner, or for another change of it on this host. @throws QUEUE_FULL */
  follow(request: FollowRequest): Promise<FollowAnswer>;
  /** Readers that are held now. */
  heldFollows(): number;
  /** Placements of an owner that this host has a spool of, ascending. */
  epochs(owner: OwnerId): Promise<readonly number[]>;
  /** Bytes that exist only on this host. */
  unshippedBytes(): number;
  /** Removes spools that are shipped, idle for `idleMs` and whose owner has no VM here. @returns how many */
  prune(idleMs: number, inUse: (owner: OwnerId) => boolean): Promise<number>;
  /** Begins to ship in the background, also what earlier processes left. */
  start(): void;
  /** Makes everything safe on disk, answers every reader that waits and ends the background work. */
  stop(): Promise<void>;
}

const offsetSchema = z.strictObject({ offset: z.int().min(0) });

/** @returns the spools below `<stateDir>/logs/<folder of the owner>/<epoch>/`. One process per directory. */
export function createHostLogs(options: HostLogsOptions): HostLogs {
  return new FileLogs(options);
}

class FileLogs implements HostLogs {
  private readonly options: HostLogsOptions;
  private readonly root: string;
  private readonly shipper: LogShipper;
  private readonly follows: LogFollows;
  private readonly spools = new Map<string, Promise<LogSpool>>();
  private readonly opened = new Map<string, SpoolToShip>();
  /** A folder is not removed while a spool is made in it. */
  private readonly folders = createKeyedLock();
  private foundEarlier = false;

  constructor(options: HostLogsOptions) {
    this.options = options;
    this.root = join(options.stateDir, 'logs');
    this.shipper = createLogShipper({
      store: options.store,
      writer: options.hostId,
      everyMs: options.shipEveryMs,
      logger: options.logger,
    });
    this.follows = createLogFollows({
      max: options.maxFollows,
      maxHoldMs: options.maxFollowMs,
      read: (log, after, limit) => this.read(log, after, limit),
      epochs: (owner) => this.epochs(owner),
    });
  }

  open(log: LogRef): Promise<OutputLogWriter> {
    return this.spool(log);
  }

  async serviceOffset(log: LogRef): Promise<number> {
    if (!(await mayExist(this.directory(log)))) return 0;
    const record = await readStateFile(join(this.directory(log), 'service-offset.json'), offsetSchema);
    return Math.max(record?.offset ?? 0, (await this.spool(log)).sourceOffset);
  }

  async saveServiceOffset(log: LogRef, offset: number): Promise<void> {
    const spool = await this.spool(log);
    await spool.flush();
    // The lines already have it, and are more reliable: no crash separates a line from its own offset.
    if (offset <= spool.sourceOffset) return;
    // Not synced to disk: a guest does not survive its machine, so the offset need not either.
    const path = join(this.directory(log), 'service-offset.json');
    await writeFileAtomic(path, JSON.stringify({ offset }), { encoding: 'utf8', mode: 0o600, fsync: false });
  }

  async ship(log: LogRef): Promise<void> {
    await this.shipper.ship({ log, spool: await this.spool(log) });
  }

  async read(log: LogRef, after: number, limit: number): Promise<readonly NumberedLogEntry<LogStage>[]> {
    if (!(await mayExist(this.directory(log)))) return [];
    return (await this.spool(log)).read(after, limit);
  }

  follow(request: FollowRequest): Promise<FollowAnswer> {
    return this.follows.follow(request);
  }

  heldFollows(): number {
    return this.follows.held;
  }

  attend(owner: OwnerId): () => void {
    return this.follows.attend(owner);
  }

  epochs(owner: OwnerId): Promise<readonly number[]> {
    return epochsOf(this.root, owner);
  }

  unshippedBytes(): number {
    return [...this.opened.values()].reduce((sum, { spool }) => sum + spool.unshippedBytes, 0);
  }

  async prune(idleMs: number, inUse: (owner: OwnerId) => boolean): Promise<number> {
    let removed = 0;
    await this.openAll();
    for (const [key, { log, spool }] of [...this.opened]) {
      if (inUse(log) || spool.idleMs < idleMs || spool.unshippedBytes > 0) continue;
      this.opened.delete(key);
      this.spools.delete(key);
      await rm(this.directory(log), { recursive: true, force: true });
      await this.removeOwnerFolder(log);
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
    this.follows.end();
  }

  private spool(log: LogRef): Promise<LogSpool> {
    const directory = this.directory(log);
    const key = keyOf(log);
    const known = this.spools.get(key);
    if (known !== undefined) return known;
    const { kind, id, epoch } = log;
    const opening = this.makeSpool(log, directory).then(
      (spool) => {
        this.opened.set(key, { log: { kind, id, epoch }, spool });
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

  private makeSpool(log: LogRef, directory: string): Promise<LogSpool> {
    const { hostId: writer, now = Date.now } = this.options;
    return this.folders.run(ownerWorkflowId(log), async () => {
      await makeOwnerFolder(this.root, log);
      const onSafe = () => this.follows.wake(log);
      return openLogSpool({ ...this.options, directory, epoch: log.epoch, writer, now, onSafe });
    });
  }

  private async openAll(): Promise<void> {
    for (const owner of await ownersIn(this.root)) {
      for (const epoch of await this.epochs(owner)) await this.spool({ ...owner, epoch });
    }
  }

  /** Keeps the folder while another placement has a spool in it. */
  private removeOwnerFolder(owner: OwnerId): Promise<void> {
    return this.folders.run(ownerWorkflowId(owner), async () => {
      if ((await this.epochs(owner)).length > 0) return;
      const ownerFile = ownerFilePath(this.root, owner);
      await rm(ownerFile, { force: true });
      await rmdir(dirname(ownerFile)).catch(() => undefined);
    });
  }

  private directory(log: LogRef): string {
    return spoolFolder(this.root, log);
  }
}

function keyOf(log: LogRef): string {
  return `${ownerWorkflowId(log)}#${log.epoch}`;
}
