/** What is run in a guest before it is frozen; it ends when the freeze has to be over, whatever the guest does. */

import { abortable, inTime, msUntil } from '../../../concurrency/deadline.ts';
import { KilnError } from '../../../domain/failures.ts';
import type { AgentChannel } from '../../../ports/guest-agent.ts';

export interface FreezeLimits {
  /** On the monotonic clock, ms. */
  readonly deadline: number;
  readonly signal: AbortSignal;
}

/**
 * Runs the programs one after the other, then has the guest ready to be frozen.
 * @throws AGENT_TIMEOUT, CANCELLED, INTERNAL where a program fails, AGENT_LOST; a program that hangs then still runs
 */
export async function warmUp(
  agent: Pick<AgentChannel, 'exec' | 'quiesce'>,
  programs: readonly (readonly string[])[],
  limits: FreezeLimits,
): Promise<void> {
  for (const [index, argv] of programs.entries()) {
    await bounded(runOnce(agent, `warm-${index}`, argv), argv.join(' '), limits);
  }
  await bounded(agent.quiesce(), 'getting it ready to be frozen', limits);
}

async function bounded(work: Promise<void>, what: string, { deadline, signal }: FreezeLimits): Promise<void> {
  const late = () => new KilnError('AGENT_TIMEOUT', `${what} took too long`);
  const cancelled = () => new KilnError('CANCELLED', `${what} was cancelled`, {}, signal.reason);
  await abortable(inTime(work, msUntil(deadline), late), signal, cancelled);
}

/** The output is read and thrown away: a program whose output nobody reads would wait. */
async function runOnce(agent: Pick<AgentChannel, 'exec'>, execId: string, argv: readonly string[]): Promise<void> {
  const exec = await agent.exec({ execId, argv, cwd: '/', output: 'wait' });
  let said = '';
  for await (const piece of exec.output) if (piece.kind === 'data') said = (said + piece.data.toString()).slice(-500);
  const exit = await exec.exit;
  if (exit.code !== 0)
    throw new KilnError('INTERNAL', `${argv.join(' ')} ended with ${exit.code ?? exit.signal}: ${said}`);
}
