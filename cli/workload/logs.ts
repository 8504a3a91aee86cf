import type { KilnClient } from '../../client/http/kiln-client.ts';
import { defined } from '../../domain/defined.ts';
import type { LogEntry, LogFilter } from '../../domain/logs/log-entry.ts';
import { type CliContext, EXIT } from '../cli-context.ts';
import type { CommandOutput } from '../command-output.ts';
import { logLine } from './log-line.ts';

export interface LogOptions extends LogFilter {
  readonly follow?: boolean;
  /** How many of the existing lines to show: the last ones. */
  readonly tail?: number;
}

const PAGE = 1000;

/** `kiln workload logs`. @returns exit code */
export async function showLogs(
  context: CliContext,
  output: CommandOutput,
  id: string,
  { follow, tail, ...filter }: LogOptions,
): Promise<number> {
  const api = await context.connect();
  const show = (entry: LogEntry): void => output.answer(entry, () => [logLine(entry, output.color)]);
  let after: string | undefined;
  if (follow !== true || tail !== undefined) {
    const read = await readPages(api, id, { filter, tail, show });
    if (follow !== true && read.incomplete !== undefined) {
      output.note(`The newest lines may be missing: ${read.incomplete}`);
    }
    after = read.cursor;
  }
  if (follow !== true) return EXIT.ok;
  const interrupt = context.interruptible();
  try {
    const from = after === undefined ? filter : { ...filter, after };
    for await (const event of api.streamWorkloadLogs(id, { ...from, signal: interrupt.signal })) {
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

interface PageReading {
  readonly filter: LogFilter;
  readonly tail: number | undefined;
  readonly show: (entry: LogEntry) => void;
}

/** Shows the existing lines: page by page, or only the last ones. */
async function readPages(
  api: KilnClient,
  id: string,
  { filter, tail, show }: PageReading,
): Promise<{ cursor: string; incomplete?: string }> {
  let held: LogEntry[] = [];
  let after: string | undefined;
  for (;;) {
    const query = { ...filter, limit: PAGE, ...defined({ after }) };
    const { entries, cursor, more, ...rest } = await api.workloadLogs({ params: { id }, query });
    if (tail === undefined) entries.forEach(show);
    else held = tail === 0 ? [] : [...held, ...entries].slice(-tail);
    after = cursor;
    if (more) continue;
    held.forEach(show);
    return { ...rest, cursor };
  }
}
