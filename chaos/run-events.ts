/** Applies a schedule to a Kiln, then waits for its end and checks the outcome. */
import { setTimeout as delay } from 'node:timers/promises';
import type { WorkloadClient } from '../client/temporal/workloads/workload-client.ts';
import { isKilnError } from '../domain/failures.ts';
import type { WorkloadPolicyOverrides } from '../domain/policies.ts';
import { isFinal } from '../domain/workload/stages.ts';
import type { WorkloadState } from '../domain/workload/workload.ts';
import type { Servers } from '../test/support/servers/servers.global.ts';
import { FAST } from '../test/support/workers/kiln-harness.ts';
import { ProcessStack } from '../test/support/workers/process-stack.ts';
import { allowedOutcomes } from './allowed-outcomes.ts';
import type { ChaosEvent, FaultPort } from './schedule.ts';

export interface RunOptions {
  readonly servers: Pick<Servers, 'temporalAddress' | 's3' | 'pids' | 'workflowBundle'>;
  /** How long after the last event a workload may make no progress, and the host hold unneeded resources, ms. */
  readonly settleMs: number;
  /** Breaks off, and leaves nothing. */
  readonly signal?: AbortSignal;
}

const POLL_MS = 50;
/** Of a stuck workload's history, in its report. */
const LAST_EVENTS = 25;
const MOST_CHARS = 4_000;
/** A service that never listens is given up after this. */
const HEALTH = { intervalMs: 100, timeoutMs: 500, failures: 3, startPeriodMs: 6_000 };
const NEVER_LISTENS = { ...HEALTH, startPeriodMs: 1_000 };
/** With many schedules at once workers are killed repeatedly: that alone must not fail a workload. */
const POLICIES: WorkloadPolicyOverrides = {
  ...FAST,
  placement: { ...FAST.placement, deadlineMs: 180_000 },
  host: { ...FAST.host, lostAfterMs: 60_000 },
};
const CONTROL_PORTS: readonly FaultPort[] = ['hosts.list', 'documents.writeResult'];

/** Runs events on a Kiln of their own. @returns what went wrong, one line each; empty = nothing. @throws where broken off */
export async function runEvents(events: readonly ChaosEvent[], options: RunOptions): Promise<string[]> {
  const { signal, servers } = options;
  const stack = await ProcessStack.start(servers);
  const brokenOff = new Promise<'broken off'>((resolve) => {
    signal?.addEventListener('abort', () => resolve('broken off'));
    if (signal?.aborted) resolve('broken off');
  });
  const run = new ScheduleRun(stack, events, options).run();
  run.catch(() => undefined);
  let isBrokenOff = false;
  try {
    const wrong = await Promise.race([run, brokenOff]);
    isBrokenOff = wrong === 'broken off';
    if (wrong === 'broken off') throw new Error('it was broken off');
    return wrong;
  } finally {
    await (isBrokenOff ? stack.abandon() : stack.close());
  }
}

class ScheduleRun {
  private readonly stack: ProcessStack;
  private readonly workloads: WorkloadClient;
  private readonly events: readonly ChaosEvent[];
  private readonly options: RunOptions;
  private readonly wrong: string[] = [];
  /** One worker at a time is replaced, each role on its own. */
  private readonly replacing = new Map<string, Promise<void>>();

  constructor(stack: ProcessStack, events: readonly ChaosEvent[], options: RunOptions) {
    this.stack = stack;
    this.workloads = stack.clientWith(POLICIES);
    this.events = events;
    this.options = options;
  }

  async run(): Promise<string[]> {
    const begun = Date.now();
    const doing: Promise<void>[] = [];
    for (const event of this.events) {
      if (this.options.signal?.aborted) return [];
      await delay(Math.max(0, begun + event.atMs - Date.now()));
      doing.push(this.act(event).catch((error: unknown) => this.report(`${event.kind}: ${String(error)}`)));
    }
    await Promise.all(doing);
    await Promise.all(this.replacing.values());
    const created = this.events.filter((event) => event.kind === 'create');
    const states = await Promise.all(created.map((event) => this.settled(event)));
    await Promise.all(states.map((state) => this.end(state)));
    await this.expectNothingLeft();
    await this.stack.judge().catch((error: unknown) => this.report(String(error)));
    return this.wrong;
  }

  private report(line: string): void {
    this.wrong.push(line.slice(0, MOST_CHARS));
  }

  private async act(event: ChaosEvent): Promise<void> {
    const { workloads } = this;
    if (event.kind === 'create') {
      const health = event.service === 'never-listens' ? NEVER_LISTENS : HEALTH;
      const env = event.service === 'waits-in-build' ? { BUILD_MS: '700', BUILD_FOR: event.id } : {};
      await patient(() => workloads.create({ servicePath: event.service, health, env }, event.id));
    } else if (event.kind === 'stop') await patient(() => workloads.stop(event.id, { waitMs: 0 }));
    else if (event.kind === 'cancel') await this.cancel(event.id);
    else if (event.kind === 'kill-vm') await this.killVm(event.id);
    else if (event.kind === 'stall') await this.stall(event.server, event.forMs);
    else if (event.kind === 'kill-worker') await this.replace(event.role);
    else {
      const role = CONTROL_PORTS.includes(event.port) ? 'control' : 'host';
      await this.replacing.get(role);
      await this.stack.worker(role).fail(event.port, event.moment);
    }
  }

  /** Until Temporal has taken it, or the workload is over: its creation may still be under way. */
  private async cancel(id: string): Promise<void> {
    const taken = () =>
      this.stack.temporal.workflow
        .getHandle(`workload/${id}`)
        .cancel()
        .then(
          () => true,
          () => false,
        );
    while (!(await taken())) {
      if (isFinal((await patient(() => this.workloads.get(id))).state.stage)) return;
      await delay(POLL_MS);
    }
  }

  private replace(role: 'host' | 'control'): Promise<void> {
    const before = this.replacing.get(role) ?? Promise.resolve();
    const replaced = before.then(() => this.stack.replaceWorker(role));
    this.replacing.set(role, replaced);
    return replaced;
  }

  private async killVm(id: string): Promise<void> {
    const { state } = await patient(() => this.workloads.get(id));
    if (state.vm?.pid !== undefined) signal(state.vm.pid, 'SIGKILL');
  }

  private async stall(server: 'temporal' | 'versitygw', forMs: number): Promise<void> {
    const pid = this.options.servers.pids[server];
    if (pid === undefined) return;
    signal(pid, 'SIGSTOP');
    await delay(forMs);
    signal(pid, 'SIGCONT');
  }

  /** Waits until a workload runs or has ended, and compares with the allowed outcomes. */
  private async settled({ id, service }: Extract<ChaosEvent, { kind: 'create' }>): Promise<WorkloadState | undefined> {
    let deadline = 0;
    let before = '';
    const willStop = this.events.some((event) => (event.kind === 'stop' || event.kind === 'cancel') && event.id === id);
    for (;;) {
      const state = (await patient(() => this.workloads.get(id))).state;
      const settled = isOver(state) || (state.stage === 'running' && !willStop && !state.leaving);
      if (settled && (state.stage !== 'running' || (await answers(state)))) {
        const outcome = state.failure?.code ?? state.stage;
        const allowed = allowedOutcomes(id, service, this.events);
        if (!allowed.has(outcome)) {
          this.report(`${id} (${service}) ended ${outcome}, not ${[...allowed].join(' or ')}: ${brief(state)}`);
        }
        return state;
      }
      // The check is not for a machine that is too slow: a workload that still progresses is not stuck.
      const now = standing(state);
      if (now !== before) deadline = Date.now() + this.options.settleMs;
      before = now;
      if (Date.now() > deadline) {
        this.report(`${id} (${service}) is stuck: ${brief(state)}`);
        this.report(await this.openWork(id).catch(String));
        return state;
      }
      await delay(POLL_MS);
    }
  }

  /** What Temporal itself still waits for: shows where a workload is stuck. */
  private async openWork(id: string): Promise<string> {
    const handle = this.stack.temporal.workflow.getHandle(`workload/${id}`);
    const { runId, status, raw } = await handle.describe();
    const { events } = await handle.fetchHistory();
    const activities = raw.pendingActivities?.map((pending) => {
      const failure = pending.lastFailure?.message ?? 'none';
      return `${pending.activityType?.name} attempt ${pending.attempt} state ${pending.state}, last failure: ${failure}`;
    });
    const last = events?.slice(-LAST_EVENTS).map((event) => `${event.eventId}:${event.eventType}`);
    const task = raw.pendingWorkflowTask;
    return JSON.stringify({ id, runId, status: status.name, activities, task: task && { ...task }, last });
  }

  private async end(state: WorkloadState | undefined): Promise<void> {
    if (state === undefined) return;
    const { workloadId } = state;
    const { snapshot } = await patient(() => this.workloads.stop(workloadId, { waitMs: 20_000 }));
    if (!isFinal(snapshot.state.stage)) this.report(`${workloadId} does not stop: ${brief(snapshot.state)}`);
  }

  private async expectNothingLeft(): Promise<void> {
    const left = await this.stack.leftAfter(this.options.settleMs);
    if (left.length > 0) this.report(`left: ${left.join('; ')}`);
  }
}

/** Where neither a worker nor the events can be asked in time, only the last stage is known, and not why. */
function isOver({ stage, failure }: WorkloadState): boolean {
  return isFinal(stage) && (stage !== 'failed' || failure !== undefined);
}

function standing({ stage, leaving, vm, notes, moves }: WorkloadState): string {
  return JSON.stringify([stage, leaving?.since, vm?.vmId, notes.length, moves.length]);
}

/** A service may be dead already without its workload knowing: then it is asked again. */
async function answers({ vm }: WorkloadState): Promise<boolean> {
  const response = await fetch(vm?.url ?? '', { signal: AbortSignal.timeout(2_000) }).catch(() => undefined);
  await response?.body?.cancel();
  return response?.ok === true;
}

/** Retries what a caller would retry: an unreachable server, a workload whose creation still runs. */
async function patient<T>(call: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await call();
    } catch (error) {
      const again = isKilnError(error) && /^(TEMPORAL_UNAVAILABLE|STORE_UNAVAILABLE|NOT_FOUND)$/.test(error.code);
      if (!again) throw error;
      await delay(POLL_MS);
    }
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // It is gone.
  }
}

function brief({ stage, leaving, failure, waiting, vm, notes, unreleased }: WorkloadState): string {
  return JSON.stringify({ stage, leaving, failure, waiting, vm, notes, unreleased });
}
