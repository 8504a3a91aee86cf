import { StringDecoder } from 'node:string_decoder';
import { MAX_LOG_MESSAGE } from '../../domain/log-entry.ts';
import type { OutputStream } from '../ports.ts';

/** Cuts the output of a process into lines, each stream for itself; a line without end is cut at the longest message. */
export class LineSplitter {
  private readonly onLine: (stream: OutputStream, line: string) => void;
  private readonly open = {
    stdout: { decoder: new StringDecoder('utf8'), text: '' },
    stderr: { decoder: new StringDecoder('utf8'), text: '' },
  };

  constructor(onLine: (stream: OutputStream, line: string) => void) {
    this.onLine = onLine;
  }

  push(stream: OutputStream, data: Buffer): void {
    const state = this.open[stream];
    state.text += state.decoder.write(data);
    const lines = state.text.split('\n');
    state.text = lines.pop() ?? '';
    for (const line of lines) this.emit(stream, line);
    if (state.text.length > MAX_LOG_MESSAGE) {
      this.emit(stream, state.text);
      state.text = '';
    }
  }

  /** Hands out what has no newline yet. */
  end(): void {
    for (const stream of ['stdout', 'stderr'] as const) {
      const rest = this.open[stream].text + this.open[stream].decoder.end();
      this.open[stream].text = '';
      if (rest !== '') this.emit(stream, rest);
    }
  }

  private emit(stream: OutputStream, line: string): void {
    const text = line.endsWith('\r') ? line.slice(0, -1) : line;
    if (text.length <= MAX_LOG_MESSAGE) this.onLine(stream, text);
    else
      for (let at = 0; at < text.length; at += MAX_LOG_MESSAGE)
        this.onLine(stream, text.slice(at, at + MAX_LOG_MESSAGE));
  }
}
