/** `kiln session sleep` and `kiln session fork`. */
import { forkSessionBodySchema } from '../../contracts/api/session-request.ts';
import type { SessionView } from '../../contracts/api/session-view.ts';
import { defined } from '../../domain/defined.ts';
import { type CliContext, EXIT } from '../cli-context.ts';
import type { CommandOutput } from '../command-output.ts';
import { checkedBody, given } from '../request-body.ts';
import { sessionLines } from './inspect.ts';

export interface ForkOptions {
  readonly project?: string;
  readonly turn?: number;
}

/** @returns exit code */
export async function sleepSession(
  context: CliContext,
  output: CommandOutput,
  thread: string,
  { project }: { readonly project?: string },
): Promise<number> {
  const api = await context.connect();
  return answered(context, output, await api.sleepSession({ params: { thread }, query: defined({ project }) }));
}

/** @returns exit code. @throws UsageError where the copy's name is none */
export async function forkSession(
  context: CliContext,
  output: CommandOutput,
  { thread, copy }: { readonly thread: string; readonly copy: string },
  { project, turn }: ForkOptions,
): Promise<number> {
  const body = checkedBody(forkSessionBodySchema, given({ thread: copy, turn }), { thread: 'the copy' });
  const api = await context.connect();
  return answered(context, output, await api.forkSession({ params: { thread }, query: defined({ project }), body }));
}

function answered(context: CliContext, output: CommandOutput, view: SessionView): number {
  output.answer(view, () => sessionLines(view, context.now()));
  return EXIT.ok;
}
