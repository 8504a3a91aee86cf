/** Records of saves and restores, one after another in the data of a stream: type, length, payload. */
import { KilnError } from '../../../domain/failures.ts';
import { WORKSPACE_LIMITS } from '../../../domain/session/workspace.ts';

export const RECORD = { chunk: 1, entry: 2, removed: 3, skipped: 4, finish: 5, progress: 6 } as const;
export type RecordType = (typeof RECORD)[keyof typeof RECORD];

export interface WireRecord {
  readonly type: RecordType;
  readonly payload: Buffer;
}

const HEADER_BYTES = 5;
/** Of a record that is not there yet, at first; a guest that only announces much gets no more. */
const FIRST_BYTES = 64 * 1024;

/** Shortest and longest payload of each type, bytes. */
const LENGTHS: Readonly<Record<RecordType, readonly [number, number]>> = {
  [RECORD.chunk]: [1, WORKSPACE_LIMITS.chunkBytes],
  [RECORD.entry]: [2, 4 * 1024 * 1024],
  [RECORD.removed]: [1, WORKSPACE_LIMITS.pathBytes],
  [RECORD.skipped]: [2, 16 * 1024],
  [RECORD.finish]: [0, 0],
  [RECORD.progress]: [0, 0],
};

/** @returns the bytes of one record. @throws INTERNAL where the payload has a length that no record of the type has */
export function encodeRecord(type: RecordType, payload: Uint8Array): Buffer {
  const [least, most] = LENGTHS[type];
  if (payload.length < least || payload.length > most) {
    throw new KilnError('INTERNAL', `A record of type ${type} cannot have ${payload.length} bytes.`);
  }
  const record = Buffer.allocUnsafe(HEADER_BYTES + payload.length);
  record.writeUInt8(type, 0);
  record.writeUInt32BE(payload.length, 1);
  record.set(payload, HEADER_BYTES);
  return record;
}

/** Takes records out of a stream of bytes, however it is cut. */
export class RecordReader {
  private readonly header = Buffer.alloc(HEADER_BYTES);
  private headerBytes = 0;
  private body: Buffer | undefined;
  private bodyBytes = 0;

  /** True between two records. */
  get isBetween(): boolean {
    return this.headerBytes === 0;
  }

  /** @returns the records that end in these bytes. @throws AGENT_PROTOCOL for bytes that are no record */
  *push(bytes: Buffer): Generator<WireRecord, void, void> {
    for (let at = 0; at < bytes.length || this.isWhole; ) {
      if (this.headerBytes < HEADER_BYTES) at += this.takeHeader(bytes, at);
      else at += this.takeBody(bytes, at);
      if (this.isWhole) yield this.finish();
    }
  }

  private takeHeader(bytes: Buffer, at: number): number {
    const taken = bytes.copy(this.header, this.headerBytes, at);
    this.headerBytes += taken;
    if (this.headerBytes === HEADER_BYTES) {
      const { length } = this.parsedHeader();
      this.body = Buffer.allocUnsafeSlow(Math.min(length, FIRST_BYTES));
    }
    return taken;
  }

  private takeBody(bytes: Buffer, at: number): number {
    const { length } = this.parsedHeader();
    const wanted = Math.min(length - this.bodyBytes, bytes.length - at);
    let body = this.body ?? Buffer.alloc(0);
    if (this.bodyBytes + wanted > body.length) {
      const grown = Buffer.allocUnsafeSlow(Math.min(length, Math.max(body.length * 2, this.bodyBytes + wanted)));
      body.copy(grown, 0, 0, this.bodyBytes);
      body = grown;
      this.body = grown;
    }
    bytes.copy(body, this.bodyBytes, at, at + wanted);
    this.bodyBytes += wanted;
    return wanted;
  }

  private get isWhole(): boolean {
    return this.headerBytes === HEADER_BYTES && this.bodyBytes === this.header.readUInt32BE(1);
  }

  private finish(): WireRecord {
    const { type, length } = this.parsedHeader();
    const payload = (this.body ?? Buffer.alloc(0)).subarray(0, length);
    this.headerBytes = 0;
    this.body = undefined;
    this.bodyBytes = 0;
    return { type, payload };
  }

  private parsedHeader(): { readonly type: RecordType; readonly length: number } {
    const type = this.header.readUInt8(0);
    const length = this.header.readUInt32BE(1);
    if (!isRecordType(type)) throw invalid(`a record of unknown type ${type}`);
    const [least, most] = LENGTHS[type];
    if (length < least || length > most) throw invalid(`a record of type ${type} with ${length} bytes`);
    return { type, length };
  }
}

function isRecordType(type: number): type is RecordType {
  return type in LENGTHS;
}

function invalid(what: string): KilnError {
  return new KilnError('AGENT_PROTOCOL', `The guest agent sent ${what} in a save.`);
}
