/**
 * The output of one run as a file of this host. Positions are the agent's: they count the bytes of both streams
 * together, so a reader goes on where it stopped, whoever wrote the file and however often that process died.
 */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { KilnError } from '../../domain/failures.ts';
import { writeAll } from '../../linux/write-all.ts';
import type { ExecOutput } from '../../ports/guest-agent.ts';
import {
  dataBytes,
  decodedHeader,
  encodedHeader,
  FRAME_HEADER_BYTES,
  type Frame,
  frameOf,
  isIntact,
} from '../../store/sessions/output-frames.ts';

/** A position in the file is remembered for every so many bytes of it, so that a late reader need not read all. */
const INDEX_EVERY = 64 * 1024;
const NO_DATA = Buffer.alloc(0);

export interface RunOutput {
  /** Position behind the last byte taken, kept or dropped. */
  readonly end: number;
  /** Position behind the last byte that a crash of this machine cannot lose. */
  readonly safeEnd: number;
  /** Appends a piece; what lies before `end` already is left out. Calls wait for each other. */
  take(piece: ExecOutput): Promise<void>;
  /** Makes everything safe. @returns `end` as it was when this began */
  sync(): Promise<number>;
  /**
   * Pieces from position `after` on, about `maxBytes` of them; none where there is nothing more yet.
   * @returns undefined once the file is closed
   */
  read(after: number, maxBytes: number): Promise<ExecOutput[] | undefined>;
  /** Marks what was dropped for the size limit, and makes all safe. Nothing is taken afterwards. */
  finish(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Opens a file that another may still write, to read what is in it now. @throws ENOENT where there is none
 */
export async function openToRead(path: string): Promise<Pick<RunOutput, 'read' | 'close'>> {
  const file = await open(path, constants.O_RDONLY);
  const output = new FileOutput(file, 0);
  await output.scan();
  return output;
}

/**
 * Opens or makes the file, for its one writer. A frame that a crash has cut is dropped: the guest still has its bytes, since only what is
 * safe is acknowledged.
 * @param maxBytes beyond this, output is dropped and its place marked
 */
export async function openRunOutput(path: string, { maxBytes }: { readonly maxBytes: number }): Promise<RunOutput> {
  const file = await open(path, constants.O_RDWR | constants.O_CREAT, 0o600);
  try {
    const output = new FileOutput(file, maxBytes);
    await output.recover();
    return output;
  } catch (error) {
    await file.close();
    throw error;
  }
}

class FileOutput implements RunOutput {
  end = 0;
  safeEnd = 0;
  private readonly file: FileHandle;
  private readonly maxBytes: number;
  private size = 0;
  /** Frames at which a reader can begin, ascending. */
  private readonly index: { readonly offset: number; readonly at: number }[] = [];
  /** Where dropping began. */
  private droppedFrom: number | undefined;
  private isClosed = false;
  private last: Promise<unknown> = Promise.resolve();

  constructor(file: FileHandle, maxBytes: number) {
    this.file = file;
    this.maxBytes = maxBytes;
  }

  async recover(): Promise<void> {
    const { size } = await this.scan();
    if (size > this.size) await this.file.truncate(this.size);
    this.safeEnd = this.end;
  }

  /** Finds the whole frames. @returns the size of the file */
  async scan(): Promise<{ readonly size: number }> {
    const { size } = await this.file.stat();
    for (;;) {
      const frame = await this.frameAt(this.size);
      // Frames follow one another without overlap and none is empty; anything else is what a crash has left.
      if (frame === undefined || frame.offset !== this.end || frame.bytes === 0) break;
      if (this.size + FRAME_HEADER_BYTES + dataBytes(frame) > size) break;
      if (!isIntact(frame, await this.bytesAt(this.size + FRAME_HEADER_BYTES, dataBytes(frame)))) break;
      this.note(frame);
    }
    return { size };
  }

  take(piece: ExecOutput): Promise<void> {
    return this.inTurn(async () => {
      const known = this.end - piece.offset;
      if (known < 0) throw new KilnError('INTERNAL', `Output of a run at ${piece.offset} does not follow ${this.end}.`);
      const data = piece.kind === 'gap' ? NO_DATA : piece.data.subarray(known);
      const bytes = piece.kind === 'gap' ? piece.bytes - known : data.length;
      const kind = piece.kind === 'gap' ? 'gap' : piece.stream;
      if (bytes > 0) await this.keep(frameOf(kind, this.end, bytes, data), data);
    });
  }

  sync(): Promise<number> {
    return this.inTurn(async () => {
      const { end } = this;
      await this.file.datasync();
      this.safeEnd = end;
      return end;
    });
  }

  read(after: number, maxBytes: number): Promise<ExecOutput[] | undefined> {
    return this.inTurn(async () => (this.isClosed ? undefined : await this.piecesFrom(after, maxBytes)));
  }

  private async piecesFrom(after: number, maxBytes: number): Promise<ExecOutput[]> {
    const pieces: ExecOutput[] = [];
    let at = this.index.findLast(({ offset }) => offset <= after)?.at ?? 0;
    for (let taken = 0; taken < maxBytes && at < this.size; ) {
      const frame = await this.frameAt(at);
      if (frame === undefined) break;
      const piece = await this.pieceOf(frame, at, after, maxBytes - taken);
      if (piece !== undefined) {
        pieces.push(piece);
        taken += piece.kind === 'gap' ? 0 : piece.data.length;
      }
      at += FRAME_HEADER_BYTES + dataBytes(frame);
    }
    return pieces;
  }

  finish(): Promise<void> {
    return this.inTurn(async () => {
      const from = this.droppedFrom;
      this.droppedFrom = undefined;
      if (from !== undefined) {
        await this.write(frameOf('gap', from, this.end - from), NO_DATA);
      }
      await this.file.datasync();
      this.safeEnd = this.end;
    });
  }

  close(): Promise<void> {
    return this.inTurn(async () => {
      this.isClosed = true;
      await this.file.close();
    });
  }

  private async keep(frame: Frame, data: Buffer): Promise<void> {
    if (this.droppedFrom !== undefined || this.size + FRAME_HEADER_BYTES + data.length > this.maxBytes) {
      this.droppedFrom ??= frame.offset;
      this.end = frame.offset + frame.bytes;
    } else {
      await this.write(frame, data);
    }
  }

  private async write(frame: Frame, data: Buffer): Promise<void> {
    await writeAll(this.file, Buffer.concat([encodedHeader(frame), data]), this.size);
    this.note(frame);
  }

  private note(frame: Frame): void {
    const since = this.size - (this.index.at(-1)?.at ?? -INDEX_EVERY);
    if (since >= INDEX_EVERY) this.index.push({ offset: frame.offset, at: this.size });
    this.size += FRAME_HEADER_BYTES + dataBytes(frame);
    this.end = frame.offset + frame.bytes;
  }

  private async frameAt(at: number): Promise<Frame | undefined> {
    return decodedHeader(await this.bytesAt(at, FRAME_HEADER_BYTES));
  }

  /** @returns the part of a frame that lies behind `after`; undefined where nothing of it does */
  private async pieceOf(frame: Frame, at: number, after: number, most: number): Promise<ExecOutput | undefined> {
    const skip = Math.max(0, after - frame.offset);
    if (skip >= frame.bytes) return undefined;
    const offset = frame.offset + skip;
    if (frame.kind === 'gap') return { kind: 'gap', offset, bytes: frame.bytes - skip };
    const data = await this.bytesAt(at + FRAME_HEADER_BYTES + skip, Math.min(frame.bytes - skip, most));
    return { kind: 'data', stream: frame.kind, offset, data };
  }

  private async bytesAt(at: number, length: number): Promise<Buffer> {
    const { buffer, bytesRead } = await this.file.read(Buffer.alloc(length), 0, length, at);
    return buffer.subarray(0, bytesRead);
  }

  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.last.then(work);
    this.last = turn.catch(() => undefined);
    return turn;
  }
}
