/** What measurements ask of sessions over HTTP. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Run, Session } from '../client/http/index.ts';
import { preciseNow } from './dev-stack.ts';

const LOOK_AGAIN_MS = 20;

/** Waits until the session rests: its VM is paused. */
export async function untilWarm(session: Session, signal: AbortSignal): Promise<void> {
  while ((await session.get()).tier !== 'warm') await delay(LOOK_AGAIN_MS, undefined, { signal });
}

/** Waits for the first byte of a run's output. @returns when it was there, ms since 1970 @throws Error where there is none */
export async function firstByteAt(run: Run): Promise<number> {
  for await (const chunk of run) if (chunk.bytes !== undefined && chunk.bytes.length > 0) return preciseNow();
  throw new Error(`the run ${run.id} wrote nothing: ${JSON.stringify(await run.result())}`);
}

/** Sends `echo x`. @returns ms from the call to the first byte of its output */
export async function echoOnce(session: Session, signal: AbortSignal): Promise<number> {
  const begun = preciseNow();
  return (await firstByteAt(session.command(['echo', 'x'], { signal }))) - begun;
}
