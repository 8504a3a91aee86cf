/** The lines of a process that is not believed: cut from its output, never more in memory than one of them may have. */

export class ReplyLines {
  private readonly maxBytes: number;
  private pieces: Buffer[] = [];
  private bytes = 0;

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }

  /** @returns the lines that this chunk ends. @throws RangeError where one is longer than it may be */
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
