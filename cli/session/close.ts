import { defined } from '../../domain/defined.ts';
import { type CliContext, EXIT } from '../cli-context.ts';
import type { CommandOutput } from '../command-output.ts';
import { sessionLines } from './inspect.ts';

export interface CloseOptions {
  readonly project?: string;
  /** How long to wait for the end, ms; 0: not at all. */
  readonly waitMs?: number;
}

/** `kiln session close`. @returns exit code; 0 where it has ended, or where the caller does not wait */
export async function closeSession(
  context: CliContext,
  output: CommandOutput,
  thread: string,
  { project, waitMs }: CloseOptions,
): Promise<number> {
  const api = await context.connect();
  const request = { params: { thread }, query: defined({ project }), body: defined({ waitMs }) };
  const view = await api.closeSession(request);
  output.answer(view, () => sessionLines(view, context.now()));
  if (view.end !== undefined || waitMs === 0) return EXIT.ok;
  output.note(`It is not closed yet; the close stands. Look again with: kiln session inspect ${thread}`);
  return EXIT.failed;
}
