/** What is run in a guest before it is frozen; whatever the guest does, only until the freeze has to be over. */

import { KilnError } from '../../../domain/failures.ts';
import type { AgentChannel } from '../../../ports/guest-agent.ts';

export interface FreezeLimits {
  /** On the monotonic clock, ms. */
  readonly deadline: number;
  readonly signal: AbortSignal;
}

/**
 * Runs the programs one after the other, and has the guest ready to be frozen then.
 * @throws AGENT_TIMEOUT, CANCELLED, INTERNAL where a program fails, AGENT_LOST; a program that hangs then still runs
 */
export async function warmUp(
  agent: Pick<AgentChannel, 'exec' | 'quiesce'>,
  programs: readonly (readonly string[])[],
  limits: FreezeLimits,
): Promise<void> {
  for (const [index, argv] of programs.entries()) {
    await inTime(runOnce(agent, `warm-${index}`, argv), argv.join(' '), limits);
  }
  await inTime(agent.quiesce(), 'getting it ready to be frozen', limits);
}

async function inTime(work: Promise<void>, what: string, { deadline, signal }: FreezeLimits): Promise<void> {
  const over = Promise.withResolvers<never>();
  const cancel = () => over.reject(new KilnError('CANCELLED', `${what} was cancelled`, {}, signal.reason));
  const late = () => over.reject(new KilnError('AGENT_TIMEOUT', `${what} took too long`));
  const timer = setTimeout(late, Math.max(1, Math.ceil(deadline - performance.now())));
  signal.addEventListener('abort', cancel, { once: true });
  if (signal.aborted) cancel();
  try {
    await Promise.race([work, over.promise]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', cancel);
  }
}

/** The output is read and thrown away: a program that nobody listens to would wait. */
async function runOnce(agent: Pick<AgentChannel, 'exec'>, execId: string, argv: readonly string[]): Promise<void> {
  const exec = await agent.exec({ execId, argv, cwd: '/', output: 'wait' });
  let said = '';
  for await (const piece of exec.output) if (piece.kind === 'data') said = (said + piece.data.toString()).slice(-500);
  const exit = await exec.exit;
  if (exit.code !== 0)
    throw new KilnError('INTERNAL', `${argv.join(' ')} ended with ${exit.code ?? exit.signal}: ${said}`);
}
