/** Lines of a process that is not trusted: cut from its output, with at most one longest line in memory. */

export class ReplyLines {
  private readonly maxBytes: number;
  private pieces: Buffer[] = [];
  private bytes = 0;

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }

  /** @returns the lines that this chunk completes. @throws RangeError where a line is too long */
  push(chunk: Buffer): string[] {
    const lines: string[] = [];
    let from = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, from)) {
      this.keep(chunk.subarray(from, end));
      lines.push(Buffer.concat(this.pieces).toString('utf8'));
      this.pieces = [];
      this.bytes = 0;
      from = end + 1;
    }
    this.keep(chunk.subarray(from));
    return lines;
  }

  private keep(piece: Buffer): void {
    this.bytes += piece.length;
    if (this.bytes > this.maxBytes) throw new RangeError(`a line has more than ${this.maxBytes} bytes`);
    if (piece.length > 0) this.pieces.push(piece);
  }
}
