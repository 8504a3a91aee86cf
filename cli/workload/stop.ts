import { defined } from '../../domain/defined.ts';
import { isFinal } from '../../domain/workload/stages.ts';
import { type CliContext, EXIT, UsageError } from '../cli-context.ts';
import type { CommandOutput } from '../command-output.ts';
import { workloadTable } from './show.ts';

export interface StopOptions {
  /** How long to wait for the end, ms; 0: not at all. */
  readonly waitMs?: number;
  readonly reason?: string;
}

const MAX_REASON = 500;

/** `kiln workload stop`. @returns exit code; 0 where it has ended, or where the caller does not wait */
export async function stopWorkload(
  context: CliContext,
  output: CommandOutput,
  id: string,
  { waitMs, reason }: StopOptions,
): Promise<number> {
  if (reason !== undefined && reason.length > MAX_REASON) {
    throw new UsageError(`--reason may have ${MAX_REASON} characters.`);
  }
  const api = await context.connect();
  const view = await api.stopWorkload({
    params: { id },
    body: defined({ waitMs, reason }),
  });
  output.answer(view, () => workloadTable(context, output, view));
  if (isFinal(view.stage) || waitMs === 0) return EXIT.ok;
  output.note(`${id} is not over yet; the stop stands. Look again with: kiln workload get ${id}`);
  return EXIT.failed;
}
