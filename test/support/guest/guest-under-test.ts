/** What suites do with a guest: run commands in it and attach to its agent again. */
import type { Duplex } from 'node:stream';
import type { AgentChannel, ExecRequest } from '../../../ports/guest-agent.ts';

/** The guest that a suite needs: with an agent, and with Node on its PATH. */
export interface GuestUnderTest {
  /** Attaches to the agent; an earlier channel must be detached already. */
  attach(): Promise<AgentChannel>;
  /** A raw connection to the agent, to send bytes that no correct host would send. */
  openWire(): Promise<Duplex>;
  /** Resolves when the guest has ended without `destroy`. */
  ended(): Promise<void>;
  /** Ends the guest and removes everything that it leaves. */
  destroy(): Promise<void>;
}

/** Shared by the parts of the suite: the one guest, and the channel that is attached now. */
export interface Bench {
  readonly guest: () => GuestUnderTest;
  readonly agent: () => AgentChannel;
  /** Detaches and attaches again. */
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

/** @returns an exec id that no other test uses */
export function freshId(): string {
  execs += 1;
  return `exec-${execs}`;
}

/** Runs a command until it ends. */
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
