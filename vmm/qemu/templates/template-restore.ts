import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { msUntil } from '../../../concurrency/deadline.ts';
import { defined } from '../../../domain/defined.ts';
import { isKilnError, KilnError } from '../../../domain/failures.ts';
import { connectQmp, type QmpClient } from '../qmp-client.ts';

const statusAnswer = z.object({ status: z.string().max(64) });
const incoming = z.object({ status: z.string().max(64).exactOptional() });

/** Between two checks of a restore, which takes some 5 ms, and between two attempts to reach a VMM that starts. */
const POLL_MS = 2;

/**
 * Makes a VMM that waits for a state (`-incoming defer`) run. It may be called again after a crash at any point: the
 * state of the VMM shows what was done already.
 * @param descriptor under which the VMM has the saved state open
 * @throws TEMPLATE_CORRUPT where the state is refused, VMM_EXITED where the VMM ends, TIMED_OUT, CANCELLED
 */
export async function restoreState(
  qmpSocket: string,
  descriptor: number,
  options: { deadlineMs: number; signal: AbortSignal },
): Promise<void> {
  const deadline = performance.now() + options.deadlineMs;
  const qmp = await connectStarting(qmpSocket, deadline, options.signal);
  try {
    const execute = (command: string, args?: object) =>
      qmp.execute(command, { deadlineMs: msUntil(deadline), ...defined({ arguments: args }) });
    if ((await runState(qmp, deadline)) === 'inmigrate') await load(execute, descriptor);
    while ((await runState(qmp, deadline)) === 'inmigrate') await sleep(POLL_MS, undefined, { signal: options.signal });
    await execute('cont');
  } catch (error) {
    if (isKilnError(error, 'INTERNAL')) throw new KilnError('TEMPLATE_CORRUPT', error.message, {}, error);
    throw error;
  } finally {
    qmp.close();
  }
}

async function load(execute: (command: string, args?: object) => Promise<unknown>, descriptor: number): Promise<void> {
  // A VMM that waits for a state reports no migration; if it reports one, an earlier worker has already begun it.
  if (incoming.parse(await execute('query-migrate')).status !== undefined) return;
  const capabilities = [{ capability: 'x-ignore-shared', state: true }];
  await execute('migrate-set-capabilities', { capabilities });
  await execute('migrate-incoming', { uri: `fd:${descriptor}` });
}

export async function runState(qmp: QmpClient, deadline: number): Promise<string> {
  return statusAnswer.parse(await qmp.execute('query-status', { deadlineMs: msUntil(deadline) })).status;
}

/** Connects to the control socket of a VMM that has just been started. */
export async function connectStarting(socket: string, deadline: number, signal: AbortSignal): Promise<QmpClient> {
  for (;;) {
    signal.throwIfAborted();
    try {
      return await connectQmp(socket, { deadlineMs: msUntil(deadline) });
    } catch (error) {
      // Nobody listens yet, or nobody listens any longer: the caller watches the process and knows which.
      if (!isKilnError(error, 'VMM_EXITED') || performance.now() >= deadline) throw error;
      await sleep(POLL_MS, undefined, { signal });
    }
  }
}
