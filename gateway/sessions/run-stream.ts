/** Server-sent events of the output of one run. */
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import type { GapEvent, OutputEvent } from '../../contracts/api/run-output.ts';
import { runView } from '../../contracts/api/session-view.ts';
import type { ThreadName } from '../../domain/names.ts';
import { followRun, type RunFollowOptions, type RunNews } from './run-follow.ts';

export interface RunStreamOptions extends RunFollowOptions {
  readonly name: ThreadName;
  /** Position behind the last byte that the reader has. */
  readonly after: number;
  /** A reader whose buffers stay full for this long is disconnected, ms. */
  readonly slowReaderMs: number;
}

/** Writes the output until the run has ended, or the signal is aborted. */
export async function streamRun(response: ServerResponse, options: RunStreamOptions): Promise<void> {
  for await (const news of followRun(options, options.after)) {
    if (response.write(eventOf(news, options.name))) continue;
    const patience = AbortSignal.any([options.signal, AbortSignal.timeout(options.slowReaderMs)]);
    try {
      await once(response, 'drain', { signal: patience });
    } catch {
      response.destroy();
      return;
    }
  }
}

function eventOf(news: RunNews, name: ThreadName): string {
  if (news.kind === 'quiet') return ': still here\n\n';
  if (news.kind === 'end') {
    return `event: end\ndata: ${JSON.stringify(runView(name, { state: 'ended', run: news.run }))}\n\n`;
  }
  const { piece, end } = news;
  if (piece.kind === 'gap') {
    const gap: GapEvent = { offset: piece.offset, bytes: piece.bytes };
    return `id: ${end}\nevent: gap\ndata: ${JSON.stringify(gap)}\n\n`;
  }
  const data: OutputEvent = { stream: piece.kind, offset: piece.offset, base64: piece.base64 };
  return `id: ${end}\nevent: output\ndata: ${JSON.stringify(data)}\n\n`;
}
