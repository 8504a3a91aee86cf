import { rmdir } from 'node:fs/promises';
import { createKilnClient } from '../../client/http/kiln-client.ts';
import { readEnvironment, stackPaths } from '../../config/environment.ts';
import { messageOf } from '../../domain/failures.ts';
import { POOL_VM_PREFIX } from '../../domain/names.ts';
import type { DevStack } from './dev-stack.ts';
import { sleepAllSessions } from './sleep-sessions.ts';
import { launchStack, ownInterrupts, untilAborted } from './stack-launch.ts';
import { stopAllWorkloads } from './stop-workloads.ts';

/** How long workloads may take to end when the stack stops; the rest is then ended by force. */
const STOP_PATIENCE = { deadlineMs: 60_000, pollMs: 100 };

export interface DevOptions {
  readonly keepVms: boolean;
  readonly json: boolean;
  /** Environment variables that options set. */
  readonly env?: Readonly<Record<string, string>>;
}

/** Progress goes to standard error: standard output belongs to the result. */
export function say(text: string): void {
  process.stderr.write(`kiln: ${text}\n`);
}

/** Runs a stack until Ctrl-C. @returns exit code */
export async function runDev(options: DevOptions): Promise<number> {
  const ending = ownInterrupts(say);
  const stack = await launchUnlessInterrupted(ending, options.env);
  if (!stack) return 130;
  tell(stack, options.json);
  await untilAborted(ending);
  await endStack(stack, options.keepVms);
  return 0;
}

/** @returns the stack, or undefined where Ctrl-C came first and everything was stopped again. */
export async function launchUnlessInterrupted(
  ending: AbortSignal,
  env: Readonly<Record<string, string>> = {},
): Promise<DevStack | undefined> {
  try {
    return await launchStack(ending, say, env);
  } catch (error) {
    if (ending.aborted) return undefined;
    throw error;
  }
}

/** Ends workloads first, while their workers still run, then the processes, then the rest by force. */
export async function endStack(stack: DevStack, keepVms: boolean): Promise<void> {
  if (!keepVms) {
    const client = createKilnClient({ apiUrl: stack.info.apiUrl, token: stack.info.token });
    const all = (error: unknown) => [`all of them (${messageOf(error)})`];
    const [workloads, sessions] = await Promise.all([
      stopAllWorkloads(client, { ...STOP_PATIENCE, reason: 'the stack was stopped', say }).catch(all),
      sleepAllSessions(client, { ...STOP_PATIENCE, say }).catch(all),
    ]);
    const left = [...workloads, ...sessions];
    if (left.length > 0) say(`not ended in time: ${left.join(', ')}`);
  }
  await stack.stop();
  if (!keepVms) {
    const { destroyRecordedVms } = await import('../../workers/host/destroy-recorded-vms.ts');
    // Pooled VMs without a workload always end here, so they are not reported.
    const forced = (await destroyRecordedVms()).filter((vmId) => !vmId.startsWith(POOL_VM_PREFIX));
    for (const vmId of forced) say(`VM ${vmId} was destroyed by force`);
    // It lies outside the home, so nothing else removes it. If it is not empty, it is not ours to remove.
    await rmdir(stackPaths(readEnvironment(), process.getuid?.() ?? 0).runtimeDir).catch(() => undefined);
  }
  say(keepVms ? 'stopped; running workloads were left alone' : 'stopped');
}

function tell(stack: DevStack, json: boolean): void {
  const { info } = stack;
  if (json) {
    process.stdout.write(`${JSON.stringify(info)}\n`);
    return;
  }
  process.stdout.write(
    [
      `API          ${info.apiUrl}/docs`,
      `Temporal UI  ${info.temporal.uiUrl}`,
      `Token        in dev.json; the kiln command finds it by itself`,
      'Try          kiln workload create --service examples/hello-service --wait',
      'Ctrl-C stops everything; sessions go on with their files at the next start',
      '',
    ].join('\n'),
  );
}
