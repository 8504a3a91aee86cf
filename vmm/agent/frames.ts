import { crc32 } from 'node:zlib';
import { KilnError } from '../../domain/failures.ts';

/** Size of the largest frame on the wire, everything included. */
export const MAX_FRAME = 32 * 1024;
/** What a frame adds to its payload: length, type, stream and end mark. */
export const FRAME_OVERHEAD = 10;
export const MAX_PAYLOAD = MAX_FRAME - FRAME_OVERHEAD;
/** Credit that each side of a stream starts with, in payload bytes. */
export const WINDOW = 256 * 1024;
export const PROTOCOL_VERSION = 1;
export const NONCE_BYTES = 16;

const HEADER_BYTES = 9;
const MIN_LENGTH = FRAME_OVERHEAD - 4;
const MAX_LENGTH = MAX_FRAME - 4;
const END_MARK = 0x00;
const FILLER = 0xff;
/** More than one frame, so that it completes any frame that the agent was reading. */
const FILLER_BYTES = MAX_FRAME + 4096;
const ATTACH_MAGIC = Buffer.from('KILN-ATTACH-v1\r\n', 'latin1');
const HELLO_MAGIC = Buffer.from('KILN-HELLO-v1\r\n\0', 'latin1');

export const FRAME = {
  hello: 1,
  ping: 2,
  pong: 3,
  open: 4,
  opened: 5,
  data: 6,
  credit: 7,
  end: 8,
  reset: 9,
  done: 10,
  output: 11,
  gap: 12,
  exit: 13,
  ack: 14,
  goodbye: 15,
} as const;

export type FrameType = (typeof FRAME)[keyof typeof FRAME];

const KNOWN_TYPES: ReadonlySet<number> = new Set(Object.values(FRAME));

export interface Frame {
  readonly type: FrameType;
  readonly stream: number;
  readonly payload: Buffer;
}

/** @returns the bytes of one frame. The payload must not exceed MAX_PAYLOAD. */
export function encodeFrame(type: FrameType, stream: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  if (payload.length > MAX_PAYLOAD) throw new KilnError('INTERNAL', `frame payload of ${payload.length} bytes`);
  const frame = Buffer.allocUnsafe(payload.length + FRAME_OVERHEAD);
  frame.writeUInt32BE(payload.length + MIN_LENGTH, 0);
  frame.writeUInt8(type, 4);
  frame.writeUInt32BE(stream, 5);
  frame.set(payload, HEADER_BYTES);
  frame.writeUInt8(END_MARK, frame.length - 1);
  return frame;
}

/**
 * @param midFrame whether the agent may have read half of a frame; if not, a few bytes announce that no frame follows
 * @returns what a host writes first: filler that ends any half frame, then the attach record with its nonce
 */
export function encodeAttach(nonce: Buffer, midFrame = true): Buffer {
  const filler = Buffer.alloc(midFrame ? FILLER_BYTES : HEADER_BYTES, FILLER);
  return Buffer.concat([filler, sealed(ATTACH_MAGIC, nonce)]);
}

/** @returns the record with which an agent answers the attach that had this nonce. */
export function encodeHelloRecord(nonce: Buffer): Buffer {
  return sealed(HELLO_MAGIC, nonce);
}

function sealed(magic: Buffer, nonce: Buffer): Buffer {
  const record = Buffer.concat([magic, nonce, Buffer.alloc(4)]);
  record.writeUInt32BE(crc32(record.subarray(0, -4)), record.length - 4);
  return record;
}

/**
 * Turns bytes from a guest into frames. Everything before the hello record of this attach is skipped: it may be the
 * rest of the bytes for an earlier one. Keeps at most one frame of bytes between calls.
 */
export class FrameReader {
  private readonly record: Buffer;
  private hunting = true;
  private pending: Buffer = Buffer.alloc(0);

  /** @param nonce of the attach whose hello is waited for; without one frames are read from the start. */
  constructor(nonce?: Buffer) {
    this.record = nonce === undefined ? Buffer.alloc(0) : encodeHelloRecord(nonce);
    this.hunting = nonce !== undefined;
  }

  /**
   * @returns the frames that are complete now, their payloads copied out of the chunk.
   * @throws AGENT_PROTOCOL on bytes that are not a frame.
   */
  push(chunk: Buffer): Frame[] {
    let bytes = this.pending.length === 0 ? chunk : Buffer.concat([this.pending, chunk]);
    if (this.hunting) {
      const at = bytes.indexOf(this.record);
      if (at < 0) {
        const keep = Math.min(bytes.length, this.record.length - 1);
        this.pending = Buffer.from(bytes.subarray(bytes.length - keep));
        return [];
      }
      this.hunting = false;
      bytes = bytes.subarray(at + this.record.length);
    }
    const frames: Frame[] = [];
    let at = 0;
    for (;;) {
      const size = frameSize(bytes, at);
      if (size === undefined || bytes.length - at < size) break;
      frames.push(decode(bytes.subarray(at, at + size)));
      at += size;
    }
    this.pending = Buffer.from(bytes.subarray(at));
    return frames;
  }
}

function frameSize(bytes: Buffer, at: number): number | undefined {
  if (bytes.length - at < 4) return undefined;
  const length = bytes.readUInt32BE(at);
  if (length < MIN_LENGTH || length > MAX_LENGTH) throw malformed(`length ${length}`);
  return length + 4;
}

function decode(frame: Buffer): Frame {
  const type = frame.readUInt8(4);
  if (!isFrameType(type)) throw malformed(`type ${type}`);
  if (frame.readUInt8(frame.length - 1) !== END_MARK) throw malformed('no end mark');
  return { type, stream: frame.readUInt32BE(5), payload: Buffer.from(frame.subarray(HEADER_BYTES, -1)) };
}

function isFrameType(type: number): type is FrameType {
  return KNOWN_TYPES.has(type);
}

function malformed(what: string): KilnError {
  return new KilnError('AGENT_PROTOCOL', `The guest agent sent a malformed frame (${what}).`);
}
