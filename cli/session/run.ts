import { constants } from 'node:os';
import type { Run } from '../../client/http/sessions/run.ts';
import type { Session } from '../../client/http/sessions/session.ts';
import { type SendRunBody, sendRunBodySchema } from '../../contracts/api/session-request.ts';
import { type RunView, runViewSchema } from '../../contracts/api/session-view.ts';
import { defined } from '../../domain/defined.ts';
import { isKilnError } from '../../domain/failures.ts';
import { type CliContext, EXIT } from '../cli-context.ts';
import type { CommandOutput } from '../command-output.ts';
import { checkedBody, given } from '../request-body.ts';
import { fieldLines } from '../terminal/text-columns.ts';
import { noteGap } from './output.ts';

export interface RunOptions {
  readonly project?: string;
  readonly id?: string;
  /** In place of a command. */
  readonly message?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Milliseconds. */
  readonly timeout?: number;
  readonly repeatable?: boolean;
  readonly ifEnded?: string;
  readonly detach?: boolean;
}

/**
 * `kiln session run`: passes the command's output through. Ctrl-C cancels the run, a second one leaves.
 * @returns the command's exit code, 128 and the signal's number where a signal ended it
 * @throws UsageError that names every option that is wrong; the run's own failure
 */
export async function runCommand(
  context: CliContext,
  output: CommandOutput,
  { thread, command }: { readonly thread: string; readonly command: readonly string[] },
  options: RunOptions,
): Promise<number> {
  const body = bodyOf(command, options);
  const api = await context.connect();
  const leave = new AbortController();
  const run = sent(api.session(thread, defined({ project: options.project })), body, leave.signal);
  if (options.detach !== true) return await untilEnded(context, output, run, leave);
  const view = await accepted(output, run);
  output.answer(view, () => runLines(view));
  output.note(`Follow it with: kiln session output ${thread} ${run.id}`);
  return EXIT.ok;
}

function bodyOf(words: readonly string[], options: RunOptions): SendRunBody {
  const { id, message, env, timeout, repeatable, ifEnded } = options;
  const command = words.length === 0 ? undefined : [...words];
  const fields = given({ command, message, id, env, timeoutMs: timeout, repeatable, ifEnded });
  const names = { id: '--id', env: '--env', message: '--message', command: 'the command' };
  return checkedBody(sendRunBodySchema, fields, names);
}

function sent(session: Session, { command = [], message, ...body }: SendRunBody, signal: AbortSignal): Run {
  return message === undefined
    ? session.command(command, { ...body, signal })
    : session.run(message, { ...body, signal });
}

async function accepted(output: CommandOutput, run: Run): Promise<RunView> {
  try {
    return await run.accepted();
  } catch (error) {
    if (isKilnError(error) && error.retryable)
      output.note(`It may have begun: repeat the command with --id ${run.id}.`);
    throw error;
  }
}

async function untilEnded(
  context: CliContext,
  output: CommandOutput,
  run: Run,
  leave: AbortController,
): Promise<number> {
  const cancel = cancelOnInterrupt(context, output, run, leave);
  try {
    await accepted(output, run);
    if (!output.json) await passThrough(context, output, run);
    const view = await run.result();
    output.answer(view, () => []);
    return exitCodeOf(view);
  } catch (error) {
    if (cancel.failure !== undefined) throw cancel.failure;
    if (leave.signal.aborted) output.note(`No longer waiting for the run ${run.id}.`);
    else answerEnded(output, error);
    if (leave.signal.aborted || (cancel.asked && isKilnError(error, 'CANCELLED'))) return EXIT.interrupted;
    throw error;
  } finally {
    cancel.release();
  }
}

async function passThrough(context: CliContext, output: CommandOutput, run: Run): Promise<void> {
  for await (const { stream, bytes, gap } of run) {
    if (gap === undefined) context[stream].write(bytes);
    else noteGap(output, gap.bytes);
  }
}

/** A run that failed is the answer as well. */
function answerEnded(output: CommandOutput, error: unknown): void {
  const run = isKilnError(error) ? runViewSchema.safeParse(error.details['run']) : undefined;
  if (run?.success === true) output.answer(run.data, () => []);
}

interface CancelOnInterrupt {
  asked: boolean;
  /** Why it could not be cancelled. */
  failure: unknown;
  release(): void;
}

function cancelOnInterrupt(
  context: CliContext,
  output: CommandOutput,
  run: Run,
  leave: AbortController,
): CancelOnInterrupt {
  const first = context.interruptible();
  const state: CancelOnInterrupt = { asked: false, failure: undefined, release: first.release };
  const cancel = (): void => {
    state.asked = true;
    output.note(`Cancelling the run ${run.id}; Ctrl-C again leaves at once.`);
    const second = context.interruptible();
    state.release = second.release;
    second.signal.addEventListener('abort', () => leave.abort());
    run.cancel().catch((error: unknown) => {
      if (!leave.signal.aborted) state.failure = error;
      leave.abort();
    });
  };
  if (first.signal.aborted) cancel();
  else first.signal.addEventListener('abort', cancel);
  return state;
}

function exitCodeOf({ exit }: RunView): number {
  const { code, signal } = exit ?? { code: null, signal: null };
  const numbers: Readonly<Record<string, number>> = constants.signals;
  return code ?? (signal === null ? EXIT.failed : 128 + (numbers[signal] ?? 0));
}

function runLines({ id, thread, state, turn, ahead, acceptedAt }: RunView): string[] {
  return fieldLines({
    run: id,
    thread,
    state,
    turn: turn?.toString(),
    ahead: ahead === undefined || ahead === 0 ? undefined : String(ahead),
    accepted: acceptedAt,
  });
}
