import { defined } from '../../domain/defined.ts';
import { type CliContext, EXIT } from '../cli-context.ts';
import type { CommandOutput } from '../command-output.ts';

export interface DeleteOptions {
  readonly project?: string;
  /** How long to wait for its close, ms. */
  readonly waitMs?: number;
}

/** `kiln session delete`. @returns exit code; 0 once nothing but the record of the deletion is left */
export async function deleteSession(
  context: CliContext,
  output: CommandOutput,
  thread: string,
  { project, waitMs }: DeleteOptions,
): Promise<number> {
  const api = await context.connect();
  const view = await api.deleteSession({ params: { thread }, query: defined({ project, waitMs }) });
  const isDone = view.end?.emptiedAt !== undefined;
  output.answer(view, () => [isDone ? `Thread ${thread} is deleted.` : `Thread ${thread} is still being closed.`]);
  if (isDone) return EXIT.ok;
  output.note(`Nothing is removed before it is closed. Repeat: kiln session delete ${thread}`);
  return EXIT.failed;
}
