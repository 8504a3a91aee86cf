/** What suites do with a guest: run commands in it, attach to its agent again. */
import type { Duplex } from 'node:stream';
import type { AgentChannel, ExecRequest } from '../../../ports/guest-agent.ts';

/** A guest with an agent and Node on its PATH, as the suite needs it. */
export interface GuestUnderTest {
  /** Attaches to the agent; a channel from before must have let go. */
  attach(): Promise<AgentChannel>;
  /** The bare wire to the agent, for what no well-behaved host would send. */
  openWire(): Promise<Duplex>;
  /** Resolves when the guest has ended by itself. */
  ended(): Promise<void>;
  /** Ends the guest and removes what it leaves. */
  destroy(): Promise<void>;
}

/** What the parts of the suite share: the one guest, and the channel that is attached at that moment. */
export interface Bench {
  readonly guest: () => GuestUnderTest;
  readonly agent: () => AgentChannel;
  /** Lets go and attaches again. */
  reattach(): Promise<AgentChannel>;
}

export interface Collected {
  readonly stdout: string;
  readonly stderr: string;
  readonly code: number | null;
  readonly signal: string | null;
  readonly timedOut: boolean;
}

let execs = 0;

/** @returns an exec id that no other test uses. */
export function freshId(): string {
  execs += 1;
  return `exec-${execs}`;
}

/** Runs a command to its end. */
export async function runIn(
  agent: AgentChannel,
  argv: readonly string[],
  more: Partial<ExecRequest> = {},
): Promise<Collected> {
  const handle = await agent.exec({ execId: freshId(), argv, output: 'wait', ...more });
  const text = { stdout: '', stderr: '' };
  for await (const piece of handle.output) {
    if (piece.kind === 'gap') throw new Error('output was dropped in wait mode');
    text[piece.stream] += piece.data.toString('latin1');
  }
  return { ...text, ...(await handle.exit) };
}
