/** The output of a process that somebody waits for, as lines of a log. */

import type { LogLevel } from '../../domain/logs/log-entry.ts';
import { outputLevel } from '../../domain/logs/log-level.ts';
import type { LogStage } from '../../domain/logs/log-stage.ts';
import type { ExecOutput } from '../../ports/guest-agent.ts';
import type { LogWriter } from '../../ports/logs.ts';
import { ByteLines } from './output-lines.ts';

/**
 * Writes every line until the output ends; splits each stream into lines separately.
 * @returns the last `tailLines` lines
 * @throws what the output throws, after the lines before it are written
 */
export async function writeExecOutput(
  log: Pick<LogWriter, 'write'>,
  stage: LogStage,
  output: AsyncIterable<ExecOutput>,
  tailLines: number,
): Promise<string[]> {
  const lines = { stdout: new ByteLines(), stderr: new ByteLines() };
  const tail: string[] = [];
  const write = (level: LogLevel, line: string) => {
    log.write(stage, level, line);
    tail.push(line);
    if (tail.length > tailLines) tail.shift();
  };
  try {
    for await (const piece of output) {
      if (piece.kind === 'gap') write('warn', `${piece.bytes} bytes of output lost: its reader could not keep up`);
      else for (const line of lines[piece.stream].push(piece.data)) write(outputLevel(piece.stream, line), line);
    }
  } finally {
    for (const stream of ['stdout', 'stderr'] as const) {
      const rest = lines[stream].end();
      if (rest !== undefined) write(outputLevel(stream, rest), rest);
    }
  }
  return tail;
}
