/** Brings the output of runs from this host's files into the store, and removes the files some time later. */
import { type FileHandle, open, readdir, rm, rmdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { SingleFlight } from '../../concurrency/single-flight.ts';
import { projectSchema, runIdSchema, threadSchema } from '../../contracts/identifiers.ts';
import { messageOf } from '../../domain/failures.ts';
import type { SessionName } from '../../domain/names.ts';
import { directoryEntries } from '../../linux/directory-entries.ts';
import { isErrno } from '../../linux/errno.ts';
import { readStateFile, writeStateFile } from '../../linux/state-file.ts';
import type { RunInVm } from '../../ports/runs.ts';
import { dataBytes, decodedHeader, FRAME_HEADER_BYTES, framesIn } from '../../store/sessions/output-frames.ts';
import type { RunOutputs } from '../../store/sessions/run-outputs.ts';
import type { HostLogger } from '../host-logger.ts';

export interface RunShipperOptions {
  /** `<vmId>/<turn>` is the output of a run, `<vmId>/<turn>.json` says whose it is and how far it is shipped. */
  readonly directory: string;
  readonly outputs: Pick<RunOutputs, 'write'>;
  /** Whether nothing will be added to the output any more. */
  readonly isOver: (run: RunInVm) => Promise<boolean>;
  /** Whether the session was deleted: nothing of it goes into the store any more. */
  readonly isDeleted: (session: SessionName) => Promise<boolean>;
  readonly everyMs: number;
  /** Output that is shipped in one object, bytes, and a part of a frame more. */
  readonly chunkBytes: number;
  /** Files of runs whose output is in the store are removed after this, ms. */
  readonly keepMs: number;
  readonly logger: HostLogger;
}

/** Looks for files to remove in the time that one is kept. */
const PRUNES = 24;

const shippedSchema = z.strictObject({
  session: z.strictObject({ project: projectSchema, thread: threadSchema, incarnation: z.int().min(1) }),
  runId: runIdSchema,
  /** Bytes of the file that are in the store. */
  fileBytes: z.int().min(0),
  /** Everything is in the store, and nothing will follow. */
  isWhole: z.boolean(),
});
type Shipped = z.infer<typeof shippedSchema>;

export interface RunShipper {
  /** Notes whose run this is, once, before there is any output of it. */
  expect(run: RunInVm, of: Pick<Shipped, 'session' | 'runId'>): Promise<void>;
  /** @returns whose run this is, where that was noted */
  expected(run: RunInVm): Promise<Pick<Shipped, 'session' | 'runId'> | undefined>;
  /** Ships what there is of a run now. */
  ship(run: RunInVm): Promise<void>;
  start(): void;
  stop(): Promise<void>;
}

export function createRunShipper(options: RunShipperOptions): RunShipper {
  return new FileShipper(options);
}

class FileShipper implements RunShipper {
  private readonly options: RunShipperOptions;
  private readonly flights = new SingleFlight<void>();
  private timer: NodeJS.Timeout | undefined;
  private round: Promise<void> | undefined;
  private isStopped = false;
  /** Runs of which nothing is left to ship: their files wait to be removed. */
  private readonly whole = new Set<string>();
  private prunedAt = Number.NEGATIVE_INFINITY;

  constructor(options: RunShipperOptions) {
    this.options = options;
  }

  async expect(run: RunInVm, { session, runId }: Pick<Shipped, 'session' | 'runId'>): Promise<void> {
    const { project, thread, incarnation } = session;
    const file = this.noteOf(run);
    if ((await readStateFile(file, shippedSchema)) !== undefined) return;
    const name = { project, thread, incarnation };
    await writeStateFile(file, { session: name, runId, fileBytes: 0, isWhole: false });
  }

  expected(run: RunInVm): Promise<Shipped | undefined> {
    return readStateFile(this.noteOf(run), shippedSchema);
  }

  ship(run: RunInVm): Promise<void> {
    return this.flights.run(`${run.vmId}/${run.turn}`, () => this.shipNow(run));
  }

  start(): void {
    this.timer ??= setInterval(() => {
      this.round ??= this.shipAll()
        .catch((error: unknown) => {
          this.options.logger.warn({ reason: messageOf(error) }, 'a round of shipping failed; the next one goes on');
        })
        .finally(() => {
          this.round = undefined;
        });
    }, this.options.everyMs);
  }

  async stop(): Promise<void> {
    this.isStopped = true;
    clearInterval(this.timer);
    await this.round;
  }

  private async shipNow(run: RunInVm): Promise<void> {
    const name = this.fileOf(run);
    let note = this.whole.has(name) ? undefined : await readStateFile(this.noteOf(run), shippedSchema);
    if (note?.isWhole) this.whole.add(name);
    if (note === undefined || note.isWhole) return;
    // Asked before the file is read: what is added afterwards is shipped by the next call.
    const isOver = await this.options.isOver(run);
    const file = await open(name).catch(undefinedIfMissing);
    const { session, runId } = note;
    try {
      while (file !== undefined) {
        const frames = await framesFrom(file, note.fileBytes, this.options.chunkBytes);
        if (frames === undefined || (await this.options.isDeleted(session))) break;
        await this.options.outputs.write({ session, runId, vmId: run.vmId }, frames.offset, frames.bytes);
        note = { ...note, fileBytes: note.fileBytes + frames.bytes.length };
        await writeStateFile(this.noteOf(run), note);
      }
    } finally {
      await file?.close();
    }
    if (isOver) await writeStateFile(this.noteOf(run), { ...note, isWhole: true });
  }

  private async shipAll(): Promise<void> {
    const { everyMs, keepMs } = this.options;
    // Files are kept for long, and there may be many: they need not be looked at in each round.
    const isTimeToPrune = performance.now() - this.prunedAt >= Math.max(everyMs, keepMs / PRUNES);
    if (isTimeToPrune) this.prunedAt = performance.now();
    for (const run of await this.runs()) {
      if (this.isStopped) return;
      try {
        await this.ship(run);
        if (isTimeToPrune) await this.prune(run);
      } catch (error) {
        this.options.logger.warn({ ...run, reason: messageOf(error) }, 'the output of a run is shipped later');
      }
    }
  }

  private async prune(run: RunInVm): Promise<void> {
    const note = await readStateFile(this.noteOf(run), shippedSchema);
    if (note?.isWhole !== true) return;
    const { mtimeMs } = await stat(this.noteOf(run));
    if (Date.now() - mtimeMs < this.options.keepMs) return;
    await rm(this.fileOf(run), { force: true });
    await rm(this.noteOf(run), { force: true });
    this.whole.delete(this.fileOf(run));
    // Others may be in it.
    await rmdir(join(this.options.directory, run.vmId)).catch(() => undefined);
  }

  private async runs(): Promise<RunInVm[]> {
    const found: RunInVm[] = [];
    for (const vmId of await directoryEntries(this.options.directory)) {
      const names = await readdir(join(this.options.directory, vmId)).catch(() => []);
      for (const name of names) {
        const turn = /^(\d{1,15})\.json$/.exec(name)?.[1];
        if (turn !== undefined) found.push({ vmId, turn: Number(turn) });
      }
    }
    return found;
  }

  private fileOf({ vmId, turn }: RunInVm): string {
    return join(this.options.directory, vmId, String(turn));
  }

  private noteOf(run: RunInVm): string {
    return `${this.fileOf(run)}.json`;
  }
}

/** @returns whole frames from a position of the file on: about `maxBytes`, but at least one; undefined where none is there */
async function framesFrom(
  file: FileHandle,
  at: number,
  maxBytes: number,
): Promise<{ offset: number; bytes: Buffer } | undefined> {
  const first = decodedHeader(await bytesAt(file, at, FRAME_HEADER_BYTES));
  if (first === undefined) return undefined;
  const bytes = await bytesAt(file, at, Math.max(maxBytes, FRAME_HEADER_BYTES + dataBytes(first)));
  const { length } = framesIn(bytes);
  return length === 0 ? undefined : { offset: first.offset, bytes: bytes.subarray(0, length) };
}

async function bytesAt(file: FileHandle, at: number, length: number): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, at);
  return buffer.subarray(0, bytesRead);
}

function undefinedIfMissing(error: unknown): undefined {
  if (!isErrno(error, 'ENOENT')) throw error;
}
