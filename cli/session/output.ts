import type { RunOutputEvent } from '../../client/http/sessions/run-output.ts';
import type { RunView } from '../../contracts/api/session-view.ts';
import { defined } from '../../domain/defined.ts';
import { type CliContext, EXIT } from '../cli-context.ts';
import type { CommandOutput } from '../command-output.ts';

export interface OutputOptions {
  readonly project?: string;
  /** Position behind the last byte that is known. */
  readonly after?: number;
}

/** `kiln session output`: with --json one document a piece, as the stream of the API has them. @returns exit code */
export async function showOutput(
  context: CliContext,
  output: CommandOutput,
  run: { readonly thread: string; readonly id: string },
  { project, after }: OutputOptions,
): Promise<number> {
  const api = await context.connect();
  const interrupt = context.interruptible();
  const options = { ...defined({ project, after }), signal: interrupt.signal };
  try {
    for await (const event of api.streamRunOutput(run, options)) show(context, output, event);
    return interrupt.signal.aborted ? EXIT.interrupted : EXIT.ok;
  } finally {
    interrupt.release();
  }
}

function show(context: CliContext, output: CommandOutput, event: RunOutputEvent): void {
  if (event.kind === 'end') noteEnd(output, event.run);
  else if (event.kind === 'output') {
    const { stream, offset, bytes } = event;
    if (output.json) output.answer({ stream, offset, base64: Buffer.from(bytes).toString('base64') }, () => []);
    else context[stream].write(bytes);
  } else if (output.json) output.answer({ offset: event.offset, bytes: event.bytes }, () => []);
  else noteGap(output, event.bytes);
}

/** Says that output is missing here. */
export function noteGap(output: CommandOutput, bytes: number): void {
  output.note(`[${bytes} bytes of output are lost]`);
}

function noteEnd(output: CommandOutput, { id, state, failure, cause }: RunView): void {
  if (failure !== undefined) output.note(`The run ${id} failed: ${failure.code}: ${failure.message}`);
  if (state === 'cancelled') output.note(`The run ${id} was cancelled: ${cause}`);
}
