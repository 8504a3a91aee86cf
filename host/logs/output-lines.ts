/** Guest output as text that is safe to keep, to send and to print: bounded lines without control characters. */
import { StringDecoder } from 'node:string_decoder';
import { stripVTControlCharacters } from 'node:util';
import { MAX_LOG_MESSAGE } from '../../domain/logs/log-entry.ts';

/** Ends a piece of a line that was too long for one message: the next line of the same stream continues it. */
export const LINE_GOES_ON = ' [line goes on]';

/** Bytes of one line that certainly fit into one message with the mark behind them. */
export const MAX_LINE_BYTES = MAX_LOG_MESSAGE - LINE_GOES_ON.length;

/**
 * @returns the text without terminal sequences; other control characters are spelt out (`\x07`), tabs
 *   stay, lone surrogates become U+FFFD
 */
export function safeText(text: string): string {
  return stripVTControlCharacters(text)
    .toWellFormed()
    .replace(/[\0-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]/g, spellOut);
}

function spellOut(character: string): string {
  const code = character.charCodeAt(0);
  return code > 0xff ? `\\u${code.toString(16).padStart(4, '0')}` : `\\x${code.toString(16).padStart(2, '0')}`;
}

/** @returns a message as lines, each of them safe and at most `MAX_LOG_MESSAGE` long; one empty line for no text */
export function logLines(message: string): string[] {
  return message
    .replace(/\r?\n$/, '')
    .split(/\r?\n/)
    .flatMap(cut);
}

function cut(line: string): string[] {
  const text = safeText(line);
  const pieces: string[] = [];
  let start = 0;
  while (text.length - start > MAX_LOG_MESSAGE) {
    let end = start + MAX_LINE_BYTES;
    // A pair of surrogates stays together.
    if (isHighSurrogate(text.charCodeAt(end - 1))) end--;
    pieces.push(text.slice(start, end) + LINE_GOES_ON);
    start = end;
  }
  return [...pieces, text.slice(start)];
}

function isHighSurrogate(code: number): boolean {
  return code >= 0xd800 && code <= 0xdbff;
}

/**
 * Bytes of one stream to lines. Never holds more than `maxBytes`: a longer line is handed out in marked pieces.
 * Bytes that are no UTF-8 become U+FFFD.
 */
export class ByteLines {
  private decoder = new StringDecoder('utf8');
  private partial = '';
  private heldBytes = 0;
  private readonly maxBytes: number;

  constructor(maxBytes = MAX_LINE_BYTES) {
    this.maxBytes = maxBytes;
  }

  /** Bytes taken in that no line has been returned for yet. */
  get held(): number {
    return this.heldBytes;
  }

  /** @returns the lines that end in `data`, without their ends */
  push(data: Buffer): string[] {
    const lines: string[] = [];
    let start = 0;
    while (start < data.length) {
      const newline = data.indexOf(0x0a, start);
      const room = this.maxBytes - this.heldBytes;
      const end = newline < 0 ? data.length : newline;
      if (end - start > room) {
        this.take(data.subarray(start, start + room));
        lines.push(this.flush() + LINE_GOES_ON);
        start += room;
        continue;
      }
      this.take(data.subarray(start, end));
      if (newline < 0) break;
      lines.push(this.flush().replace(/\r$/, ''));
      start = newline + 1;
    }
    return lines;
  }

  /** @returns what is held, as a last line; undefined where there is nothing */
  end(): string | undefined {
    return this.heldBytes === 0 ? undefined : this.flush();
  }

  private take(data: Buffer): void {
    this.partial += this.decoder.write(data);
    this.heldBytes += data.length;
  }

  private flush(): string {
    const line = this.partial + this.decoder.end();
    this.decoder = new StringDecoder('utf8');
    this.partial = '';
    this.heldBytes = 0;
    return line;
  }
}
