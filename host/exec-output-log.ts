/** The output of a process that somebody waits for, as lines of a log. */
import type { ExecOutput, OutputStream, WorkloadLogWriter } from '../activities/ports.ts';
import { type LogLevel, MAX_LOG_MESSAGE } from '../domain/log-entry.ts';
import type { Stage } from '../domain/stages.ts';
import { ByteLines } from './log-text.ts';

/** What a line of each output counts as. */
export const OUTPUT_LEVELS: Readonly<Record<OutputStream, LogLevel>> = { stdout: 'info', stderr: 'warn' };

/**
 * Writes every line until the output ends; each stream is cut into lines for itself.
 * @returns the last `tailLines` lines
 * @throws what the output throws, after what had come is written
 */
export async function writeExecOutput(
  log: Pick<WorkloadLogWriter, 'write'>,
  stage: Stage,
  output: AsyncIterable<ExecOutput>,
  tailLines: number,
): Promise<string[]> {
  const lines = { stdout: new ByteLines(MAX_LOG_MESSAGE), stderr: new ByteLines(MAX_LOG_MESSAGE) };
  const tail: string[] = [];
  const write = (level: LogLevel, line: string) => {
    log.write(stage, level, line);
    tail.push(line);
    if (tail.length > tailLines) tail.shift();
  };
  try {
    for await (const piece of output) {
      if (piece.kind === 'gap') write('warn', `${piece.bytes} bytes of output dropped in the guest`);
      else for (const line of lines[piece.stream].push(piece.data)) write(OUTPUT_LEVELS[piece.stream], line);
    }
  } finally {
    for (const stream of ['stdout', 'stderr'] as const) {
      const rest = lines[stream].end();
      if (rest !== undefined) write(OUTPUT_LEVELS[stream], rest);
    }
  }
  return tail;
}
