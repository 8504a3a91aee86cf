/** Largest buffer that small pieces are joined into. */
const MAX_JOINED = 16 * 1024;
const FIRST_CAPACITY = 1024;

/**
 * Bytes that came in one or many pieces. A guest pays credit only for its bytes, so a piece of one byte must not
 * cost the host a separate object.
 */
export class JoinedBytes {
  private bytes: Buffer;
  private used: number;

  constructor(first: Buffer) {
    this.bytes = first;
    this.used = first.length;
  }

  get length(): number {
    return this.used;
  }

  /** @returns false where this is full: what follows needs a new one. */
  join(next: Buffer): boolean {
    const size = this.used + next.length;
    if (size > MAX_JOINED) return false;
    if (size > this.bytes.length) {
      const grown = Buffer.allocUnsafeSlow(Math.min(MAX_JOINED, Math.max(FIRST_CAPACITY, size * 2)));
      this.bytes.copy(grown, 0, 0, this.used);
      this.bytes = grown;
    }
    next.copy(this.bytes, this.used);
    this.used = size;
    return true;
  }

  /** Call it once, when nothing is joined any more. */
  take(): Buffer {
    return this.bytes.subarray(0, this.used);
  }
}
