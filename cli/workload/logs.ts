import type { KilnClient } from '../../client/http/kiln-client.ts';
import { LOG_LEVELS, type LogEntry, type LogLevel } from '../../domain/log-entry.ts';
import type { Stage } from '../../domain/stages.ts';
import { type CliContext, EXIT } from '../cli-context.ts';
import type { CommandOutput } from '../command-output.ts';
import { logLine } from './log-line.ts';

export interface LogOptions {
  readonly follow?: boolean;
  /** The least grave level that is shown. */
  readonly level?: LogLevel;
  readonly stage?: Stage;
}

const PAGE = 1000;

/** `kiln workload logs`. @returns exit code */
export async function showLogs(
  context: CliContext,
  output: CommandOutput,
  id: string,
  options: LogOptions,
): Promise<number> {
  const api = await context.connect();
  const show = (entry: LogEntry): void => {
    if (isWanted(entry, options)) output.answer(entry, () => [logLine(entry, output.color)]);
  };
  if (options.follow !== true) {
    await showPages(api, id, output, show);
    return EXIT.ok;
  }
  const interrupt = context.interruptible();
  try {
    for await (const event of api.streamWorkloadLogs(id, { signal: interrupt.signal })) {
      if (event.kind === 'log') show(event.entry);
    }
    return interrupt.signal.aborted ? EXIT.interrupted : EXIT.ok;
  } catch (error) {
    if (interrupt.signal.aborted) return EXIT.interrupted;
    throw error;
  } finally {
    interrupt.release();
  }
}

async function showPages(
  api: KilnClient,
  id: string,
  output: CommandOutput,
  show: (entry: LogEntry) => void,
): Promise<void> {
  let after: string | undefined;
  for (;;) {
    const page = await api.workloadLogs({
      params: { id },
      query: { limit: PAGE, ...(after === undefined ? {} : { after }) },
    });
    page.entries.forEach(show);
    after = page.cursor;
    if (page.more) continue;
    if (page.incomplete !== undefined) output.note(`The newest lines may be missing: ${page.incomplete}`);
    return;
  }
}

function isWanted(entry: LogEntry, { level, stage }: LogOptions): boolean {
  const grave = level === undefined || LOG_LEVELS.indexOf(entry.level) >= LOG_LEVELS.indexOf(level);
  return grave && (stage === undefined || entry.stage === stage);
}
