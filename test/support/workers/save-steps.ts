/** Steps that tests of saved workspaces take again and again. */
import { setTimeout as delay } from 'node:timers/promises';
import type { ThreadName } from '../../../domain/names.ts';
import { isStored } from '../../../domain/session/save-book.ts';
import type { Harness } from './kiln-harness.ts';
import { shell } from './session-steps.ts';

/** Waits until everything of the session is in the store. @returns the turn that the store has */
export async function untilSaved({ sessions }: Pick<Harness, 'sessions'>, name: ThreadName): Promise<number> {
  for (;;) {
    const { state } = await sessions.get(name);
    if (state?.saves !== undefined && state.saves.stored !== undefined && isStored(state.saves)) {
      return state.saves.stored.turn;
    }
    await delay(20);
  }
}

/** Writes a line into a file of the workspace, beside the runs, as a caller who puts files does. */
export function writeBeside(
  { sessions, host }: Pick<Harness, 'sessions' | 'host'>,
  name: ThreadName,
  path: string,
  text: string,
): Promise<void> {
  return sessions.hold(name, { kind: 'writeFiles', waitMs: 20_000 }, async ({ vmId }) => {
    const agent = await host.vms.agent(vmId);
    const handle = await agent.exec({ execId: text, argv: shell(`echo ${text} > ${path}`), output: 'ring' });
    for await (const _ of handle.output);
    await handle.exit;
  });
}
