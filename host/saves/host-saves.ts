/** Saves of the workspaces of sessions: from a guest into the spool of its host, into the store, and back. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { abortable } from '../../concurrency/deadline.ts';
import { createKeyedLock } from '../../concurrency/keyed-lock.ts';
import type { PackInfo, SaveHead } from '../../contracts/store/save-documents.ts';
import { isFullDisk, isKilnError, KilnError } from '../../domain/failures.ts';
import { sessionId } from '../../domain/names.ts';
import { compareSaves } from '../../domain/session/head-rules.ts';
import type { SaveMark } from '../../domain/session/save-book.ts';
import type { WorkspaceAgent } from '../../ports/guest-agent.ts';
import type { RestoredWorkspace, SessionSaves, SpooledSave, WorkspaceOf } from '../../ports/saves.ts';
import type { ObjectStore } from '../../store/object-store.ts';
import { createSaveHeads } from '../../store/sessions/saves/heads.ts';
import { undefinedIfCorrupt } from '../../store/sessions/saves/packs.ts';
import type { HostLogger } from '../host-logger.ts';
import { packCopies } from './pack-files.ts';
import { newestSave, restoreSave } from './restore.ts';
import { spooledSave, takeSnapshot } from './snapshot.ts';
import { type Spool, spoolOf } from './spool.ts';
import { uploadNewest } from './upload.ts';

export interface HostSavesOptions {
  /** Holds `saves/`, the spool, and `packs/`, copies of packs: both on one file system. */
  readonly stateDir: string;
  readonly agent: (vmId: string) => Promise<WorkspaceAgent>;
  readonly store: Pick<ObjectStore, 'readDocument' | 'writeDocument' | 'putBlob' | 'openBlob' | 'readBlob' | 'delete'>;
  /** A pack takes chunks until it has so many bytes; `PACK_BYTES` but in tests. */
  readonly packBytes: number;
  /** What packs may hold beyond a few times what a save needs; then the next save is whole. `WASTE_BYTES` but in tests. */
  readonly wasteBytes: number;
  /** Copies of packs that are kept for restores on this host, bytes. */
  readonly maxCacheBytes: number;
  /** From when a save is dropped until what only it needs is deleted from the store, ms. */
  readonly condemnedMs: number;
  /** ms since 1970. */
  readonly clock: () => number;
  readonly logger: HostLogger;
}

const SALT_BYTES = 32;

export function createSessionSaves(options: HostSavesOptions): SessionSaves {
  return new HostSaves(options);
}

class HostSaves implements SessionSaves {
  private readonly options: HostSavesOptions;
  /** Of what changes the newest save of a session here: its snapshots and restores. */
  private readonly saving = createKeyedLock();
  /** Of its uploads: a snapshot never waits for one. */
  private readonly uploading = createKeyedLock();
  /** Of the salt of a placement: two that need one get the same. */
  private readonly salting = createKeyedLock();
  /** Sessions whose next save is whole: their packs hold too much that nobody needs. */
  private readonly wasteful = new Set<string>();

  constructor(options: HostSavesOptions) {
    this.options = options;
  }

  async claim(of: Pick<WorkspaceOf, 'session' | 'epoch'>): Promise<'ours' | 'anothers'> {
    const { session, epoch } = of;
    const heads = createSaveHeads(this.options.store);
    const head = await heads.read(session);
    if (head?.epoch === epoch) return 'ours';
    if (head !== undefined && head.epoch > epoch) return 'anothers';
    const spool = this.spool(of);
    // Of a session that was deleted, nothing is made again.
    if (head === undefined && (await spool.placement())?.hasClaimed === true) return 'anothers';
    const saltHex = head === undefined ? await this.salt(of, spool) : undefined;
    try {
      await heads.claim(session, epoch, saltHex);
      if (saltHex !== undefined) await this.noteMade(of, spool);
      return 'ours';
    } catch (error) {
      if (isKilnError(error, 'CONFLICT')) return 'anothers';
      throw error;
    }
  }

  snapshot(of: WorkspaceOf, mark: SaveMark, signal: AbortSignal): Promise<SpooledSave> {
    return this.inTurn(this.saving, of, signal, () => this.snapshotNow(of, mark, signal));
  }

  upload(of: Pick<WorkspaceOf, 'session' | 'epoch'>, signal: AbortSignal) {
    return this.inTurn(this.uploading, of, signal, () => {
      const { session, epoch } = of;
      const [spool, copies] = [this.spool(of), this.copies(of)];
      const heads = createSaveHeads(this.options.store);
      return uploadNewest({ ...this.options, session, epoch, spool, heads, copies, signal });
    });
  }

  restore(of: WorkspaceOf, signal: AbortSignal): Promise<RestoredWorkspace | undefined> {
    return this.inTurn(this.saving, of, signal, () => this.restoreNow(of, signal));
  }

  private async snapshotNow(of: WorkspaceOf, mark: SaveMark, signal: AbortSignal): Promise<SpooledSave> {
    const { packBytes, wasteBytes, clock, logger } = this.options;
    const spool = this.spool(of);
    const newest = (await spool.wholeSaves()).at(-1);
    const order = newest && compareSaves(newest.place, { ...mark, epoch: of.epoch });
    if (newest !== undefined && order !== undefined && order > 0) throw isOlder(of, mark, newest.note.saveId);
    if (newest?.note.vmId === of.vmId && order === 0) {
      const known = await spooledSave(spool, newest).catch(undefinedIfCorrupt);
      if (known !== undefined) return known;
    }
    const saltHex = await this.salt(of, spool);
    const agent = await abortable(this.options.agent(of.vmId), signal);
    const session = sessionId(of.session);
    const isWhole = this.wasteful.has(session);
    const settings = { packBytes, wasteBytes, isWhole, clock, logger };
    const { save, isWasteful } = await takeSnapshot({ spool, agent, of, mark, saltHex, signal, ...settings });
    if (isWasteful) this.wasteful.add(session);
    else this.wasteful.delete(session);
    return save;
  }

  private async restoreNow(of: WorkspaceOf, signal: AbortSignal): Promise<RestoredWorkspace | undefined> {
    const { store } = this.options;
    const spool = this.spool(of);
    const head = await this.claimHead(of, spool);
    signal.throwIfAborted();
    const found = await newestSave({ of, spool, store }, head.save);
    const saltHex = found?.tree.saltHex ?? head.saltHex;
    await this.salting.run(sessionId(of.session), () => spool.notePlacement({ saltHex, hasClaimed: true }));
    if (found === undefined) return undefined;
    const agent = await abortable(this.options.agent(of.vmId), signal);
    return await restoreSave({ of, spool, agent, store, copies: this.copies(of), signal }, found);
  }

  private async claimHead({ session, epoch }: Pick<WorkspaceOf, 'session' | 'epoch'>, spool: Spool): Promise<SaveHead> {
    const placement = await spool.placement();
    const newSaltHex = placement?.hasClaimed ? undefined : (placement?.saltHex ?? newSalt());
    return await createSaveHeads(this.options.store).claim(session, epoch, newSaltHex);
  }

  /** The salt of a placement never changes: chunks of all its saves have their ids by it. */
  /** A head that is gone later was deleted. */
  private noteMade({ session }: Pick<WorkspaceOf, 'session'>, spool: Spool): Promise<void> {
    return this.salting.run(sessionId(session), async () => {
      const placement = await spool.placement();
      if (placement !== undefined) await spool.notePlacement({ saltHex: placement.saltHex, hasClaimed: true });
    });
  }

  private salt({ session }: Pick<WorkspaceOf, 'session'>, spool: Spool): Promise<string> {
    return this.salting.run(sessionId(session), async () => {
      const placement = await spool.placement();
      if (placement !== undefined) return placement.saltHex;
      const saltHex = newSalt();
      await spool.notePlacement({ saltHex, hasClaimed: false });
      return saltHex;
    });
  }

  private spool(of: Pick<WorkspaceOf, 'session' | 'epoch'>): Spool {
    return spoolOf(this.options.stateDir, of);
  }

  private copies({ session }: Pick<WorkspaceOf, 'session'>) {
    const { stateDir, maxCacheBytes, store, logger } = this.options;
    const directory = join(stateDir, 'packs');
    return (packs: readonly PackInfo[]) =>
      packCopies({ directory, maxBytes: maxCacheBytes, store, logger }, session, packs);
  }

  /** A caller that gives up goes at once; the next waits until nothing of its work goes on. */
  private inTurn<T>(
    lock: ReturnType<typeof createKeyedLock>,
    { session }: Pick<WorkspaceOf, 'session'>,
    signal: AbortSignal,
    work: () => Promise<T>,
  ): Promise<T> {
    const mine = lock.run(sessionId(session), async () => {
      signal.throwIfAborted();
      return await work().catch((error: unknown) => {
        throw isFullDisk(error) ? diskFull(error) : error;
      });
    });
    return abortable(mine, signal);
  }
}

function newSalt(): string {
  return randomBytes(SALT_BYTES).toString('hex');
}

function isOlder({ vmId }: WorkspaceOf, { turn }: SaveMark, saveId: string): KilnError {
  return new KilnError('CONFLICT', `${vmId} cannot be saved as after turn ${turn}: there is the later save ${saveId}.`);
}

function diskFull(error: Error): KilnError {
  const message = `No space for saves of workspaces: free some where the host keeps its state (${error.message}).`;
  return new KilnError('DISK_FULL', message, {}, error);
}
