import { randomBytes } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { createKilnClient, type KilnClient } from '../../client/http/kiln-client.ts';
import { readEnvironment, stackPaths } from '../../config/environment.ts';
import type { WorkloadView } from '../../contracts/api/workload-view.ts';
import { KilnError } from '../../domain/failures.ts';
import { shortHash, workloadWorkflowId } from '../../domain/names.ts';
import { isFinal, type Stage } from '../../domain/workload/stages.ts';
import { LiveStageTable } from '../terminal/stage-table.ts';
import type { DevStack } from './dev-stack.ts';
import { endStack, launchUnlessInterrupted, say } from './run-dev.ts';
import { ownInterrupts, untilAborted } from './stack-launch.ts';

const EXAMPLE = 'examples/hello-service';
const POLL_MS = 200;
const ANSWER_PATIENCE_MS = 10_000;
const STOP_WAIT_MS = 30_000;
const WHOLE_LIFE: readonly Stage[] = ['pending', 'validate', 'build', 'deploy', 'running', 'stopped'];

export interface StartOptions {
  readonly once: boolean;
  readonly json: boolean;
}

/** What `npm start -- --once --json` prints as its last line. */
export interface StartResult {
  readonly workloadId: string;
  readonly stages: readonly Stage[];
  readonly serviceUrl: string;
  readonly response: unknown;
  /** From the create call to the stage `running`, as the workflow's history dates it, ms. */
  readonly submitToRunningMs: number;
  readonly historyEvents: number;
  /** From the create call to the guest agent's first answer, ms. */
  readonly vmReadyMs: number;
}

/** Stack up, example deployed, its answer shown; then until Ctrl-C, or with `once` until it is stopped. */
export async function runStart(options: StartOptions): Promise<number> {
  const ending = ownInterrupts(say);
  const stack = await launchUnlessInterrupted(ending);
  if (!stack) return 130;
  try {
    await demonstrate(stack, options, ending);
    if (!options.once) await untilAborted(ending);
    return 0;
  } catch (error) {
    if (ending.aborted) return 130;
    throw error;
  } finally {
    await endStack(stack, false);
  }
}

async function demonstrate(stack: DevStack, options: StartOptions, ending: AbortSignal): Promise<void> {
  const client = createKilnClient({ apiUrl: stack.info.apiUrl, token: stack.info.token });
  const id = `hello-${randomBytes(3).toString('hex')}`;
  await client.createWorkload({ body: { id, servicePath: EXAMPLE } });
  const running = await untilRunning(client, id, ending);
  const serviceUrl = running.url ?? '';
  const response = await answerOf(serviceUrl);
  if (!options.json) showLinks(stack, running, response);
  if (!options.once) return;
  await client.stopWorkload({ params: { id }, body: { waitMs: STOP_WAIT_MS, reason: 'shown' } });
  const result = await resultOf(client, id, { serviceUrl, response });
  await assertNothingLeft(id);
  if (options.json) process.stdout.write(`${JSON.stringify(result)}\n`);
  else say(`${result.stages.join(' → ')} in ${result.historyEvents} history events`);
}

/** @throws the workload's own failure where it does not reach `running` */
async function untilRunning(client: KilnClient, id: string, ending: AbortSignal): Promise<WorkloadView> {
  const table = new LiveStageTable(process.stderr);
  try {
    for (;;) {
      const view = await client.getWorkload({ params: { id } });
      table.show(view);
      if (view.stage === 'running') return view;
      if (isFinal(view.stage)) {
        throw new KilnError(view.code ?? 'INTERNAL', view.error ?? `${id} is ${view.stage}`, { id });
      }
      await delay(POLL_MS, undefined, { signal: ending });
    }
  } finally {
    table.end();
  }
}

async function answerOf(url: string): Promise<unknown> {
  const response = await fetch(url, { signal: AbortSignal.timeout(ANSWER_PATIENCE_MS) });
  const text = await response.text();
  if (!response.ok) throw new KilnError('HEALTH_FAILED', `${url} answered ${response.status}: ${text.slice(0, 200)}`);
  try {
    return JSON.parse(text);
  } catch {
    return text.slice(0, 2000);
  }
}

function showLinks(stack: DevStack, view: WorkloadView, response: unknown): void {
  const lines = [
    '',
    `The service answers from its own microVM: ${JSON.stringify(response)}`,
    '',
    `  service      ${view.url ?? ''}`,
    `  Temporal UI  ${view.links.temporal ?? stack.info.temporal.uiUrl}`,
    `  API          ${stack.info.apiUrl}/docs`,
    '',
  ];
  process.stdout.write(`${lines.join('\n')}\n`);
}

/** Reads the stages back from the recorded history. @throws INTERNAL where the history is not complete */
async function resultOf(
  client: KilnClient,
  id: string,
  seen: { serviceUrl: string; response: unknown },
): Promise<StartResult> {
  const view = await client.getWorkload({ params: { id } });
  const history = await client.workloadHistory({ params: { id } });
  if (history.stages.join() !== WHOLE_LIFE.join()) {
    throw new KilnError('INTERNAL', `The history tells ${history.stages.join(' → ')}`, { id });
  }
  const running = history.moves.find((move) => move.to === 'running');
  return {
    workloadId: id,
    stages: history.stages,
    ...seen,
    submitToRunningMs: Date.parse(running?.at ?? view.updatedAt) - Date.parse(view.createdAt),
    historyEvents: history.events ?? 0,
    vmReadyMs: view.vmReadyMs ?? 0,
  };
}

/** @throws INTERNAL naming what the host still holds of the stopped workload */
async function assertNothingLeft(workloadId: string): Promise<void> {
  // The host may hold things of its own; everything of a workload has a name that begins with the workload's id.
  const own = `${shortHash(workloadWorkflowId(workloadId))}-`;
  const { hostDir } = stackPaths(readEnvironment(), process.getuid?.() ?? 0);
  for (const folder of ['vms', 'reservations']) {
    const all = await readdir(join(hostDir, folder)).catch(() => []);
    const names = all.filter((name) => name.startsWith(own));
    if (names.length > 0) throw new KilnError('INTERNAL', `Left on the host: ${folder}/${names.join(', ')}`);
  }
}
