/**
 * The output of a run as a sequence of frames, in the file of its host and in the store: kind, position, length and
 * CRC-32, then the bytes of the stream. Positions are the agent's: they count the bytes of both streams together.
 */
import { crc32 } from 'node:zlib';
import type { ExecOutput } from '../../ports/guest-agent.ts';

export const FRAME_HEADER_BYTES = 17;
const NUMBER_BYTES = 6;
const KINDS = ['stdout', 'stderr', 'gap'] as const;
const NO_DATA = Buffer.alloc(0);

export interface Frame {
  readonly kind: (typeof KINDS)[number];
  readonly offset: number;
  /** Bytes of output that it stands for: a gap has none of them. */
  readonly bytes: number;
  /** Of its bytes: a crash may leave a header whose bytes never reached the disk. */
  readonly crc: number;
}

/** @returns the frame of a piece */
export function frameOf(kind: Frame['kind'], offset: number, bytes: number, data: Buffer = NO_DATA): Frame {
  return { kind, offset, bytes, crc: crc32(data) };
}

/** Bytes that follow the header of a frame. */
export function dataBytes({ kind, bytes }: Frame): number {
  return kind === 'gap' ? 0 : bytes;
}

export function encodedHeader({ kind, offset, bytes, crc }: Frame): Buffer {
  const header = Buffer.alloc(FRAME_HEADER_BYTES);
  header[0] = KINDS.indexOf(kind);
  header.writeUIntBE(offset, 1, NUMBER_BYTES);
  header.writeUIntBE(bytes, 1 + NUMBER_BYTES, NUMBER_BYTES);
  header.writeUInt32BE(crc, 1 + 2 * NUMBER_BYTES);
  return header;
}

/** @returns undefined where these bytes are no whole header, or of no kind */
export function decodedHeader(header: Buffer): Frame | undefined {
  const kind = KINDS[header[0] ?? KINDS.length];
  if (header.length < FRAME_HEADER_BYTES || kind === undefined) return undefined;
  return {
    kind,
    offset: header.readUIntBE(1, NUMBER_BYTES),
    bytes: header.readUIntBE(1 + NUMBER_BYTES, NUMBER_BYTES),
    crc: header.readUInt32BE(1 + 2 * NUMBER_BYTES),
  };
}

/** @returns whether these are the bytes of the frame */
export function isIntact(frame: Frame, data: Buffer): boolean {
  return data.length === dataBytes(frame) && crc32(data) === frame.crc;
}

/**
 * Takes whole frames apart, up to the first one that is cut or damaged.
 * @returns the pieces, and the number of bytes that they take
 */
export function framesIn(bytes: Buffer): { pieces: ExecOutput[]; length: number } {
  const pieces: ExecOutput[] = [];
  let at = 0;
  for (;;) {
    const frame = decodedHeader(bytes.subarray(at, at + FRAME_HEADER_BYTES));
    if (frame === undefined) break;
    const end = at + FRAME_HEADER_BYTES + dataBytes(frame);
    const data = bytes.subarray(at + FRAME_HEADER_BYTES, end);
    if (!isIntact(frame, data)) break;
    const { kind, offset } = frame;
    pieces.push(kind === 'gap' ? { kind, offset, bytes: frame.bytes } : { kind: 'data', stream: kind, offset, data });
    at = end;
  }
  return { pieces, length: at };
}

/** @returns the part of a piece that lies behind a position; undefined where nothing of it does */
export function behind(piece: ExecOutput, after: number): ExecOutput | undefined {
  const skip = Math.max(0, after - piece.offset);
  const offset = piece.offset + skip;
  if (piece.kind === 'gap') return skip >= piece.bytes ? undefined : { ...piece, offset, bytes: piece.bytes - skip };
  return skip >= piece.data.length ? undefined : { ...piece, offset, data: piece.data.subarray(skip) };
}
