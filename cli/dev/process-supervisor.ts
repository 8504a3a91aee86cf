import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { KilnError } from '../../domain/failures.ts';
import { backoffMs } from '../../domain/policies.ts';

export interface ProcessSpec {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Whether the process of this pid answers. Called repeatedly until it does. */
  readonly isReady: (pid: number) => Promise<boolean>;
}

export interface SupervisorOptions {
  readonly logsDir: string;
  /** Environment that identifies a process of that name if the supervisor dies before recording it. */
  readonly markOf?: (name: string) => Readonly<Record<string, string>>;
  readonly readyDeadlineMs: number;
  readonly readyPollMs: number;
  readonly restartBackoffMs: number;
  readonly maxRestartBackoffMs: number;
  /** From SIGTERM to SIGKILL. */
  readonly stopGraceMs: number;
  readonly onEvent: (event: SupervisorEvent) => void;
}

export interface SupervisorEvent {
  readonly name: string;
  readonly kind: 'started' | 'exited' | 'stopped';
  readonly pid?: number;
  readonly detail?: string;
}

interface Supervised {
  readonly spec: ProcessSpec;
  child: ChildProcess;
  stopping: boolean;
  restarts: number;
  ended: Promise<void>;
}

/**
 * Keeps the processes of a stack alive. Each is a process group of its own, so that a Ctrl-C on the terminal reaches
 * only the one owner of SIGINT; each writes its output to a file; one that ends by itself is started again.
 */
export class ProcessSupervisor {
  private readonly options: SupervisorOptions;
  private readonly processes: Supervised[] = [];

  constructor(options: SupervisorOptions) {
    this.options = options;
  }

  /** Starts a process and waits until it answers. @throws TIMED_OUT, INTERNAL (it ended first), naming its log file */
  async start(spec: ProcessSpec, signal: AbortSignal): Promise<void> {
    const supervised: Supervised = { spec, ...this.spawn(spec), stopping: false, restarts: 0 };
    this.processes.push(supervised);
    this.watch(supervised);
    const { pid } = supervised.child;
    const deadline = Date.now() + this.options.readyDeadlineMs;
    while (pid === undefined || !(await spec.isReady(pid))) {
      signal.throwIfAborted();
      if (pid === undefined || supervised.child.pid !== pid || supervised.restarts > 0) {
        throw new KilnError('INTERNAL', `${spec.name} ended before it answered. Read ${this.logPath(spec.name)}.`);
      }
      if (Date.now() > deadline) {
        throw new KilnError('TIMED_OUT', `${spec.name} did not answer in time. Read ${this.logPath(spec.name)}.`);
      }
      await delay(this.options.readyPollMs, undefined, { signal });
    }
  }

  /** @returns pid of each process that runs now. */
  pids(): Record<string, number> {
    const pairs = this.processes.map(({ spec, child }) => [spec.name, child.pid] as const);
    return Object.fromEntries(pairs.filter((pair): pair is readonly [string, number] => pair[1] !== undefined));
  }

  /** Ends one process for good. */
  async stop(name: string): Promise<void> {
    const found = this.processes.find((process) => process.spec.name === name);
    if (!found) return;
    this.processes.splice(this.processes.indexOf(found), 1);
    found.stopping = true;
    signalGroup(found.child, 'SIGTERM');
    const killer = setTimeout(() => signalGroup(found.child, 'SIGKILL'), this.options.stopGraceMs);
    await found.ended;
    clearTimeout(killer);
    this.options.onEvent({ name, kind: 'stopped' });
  }

  /** Ends all, the last started first. */
  async stopAll(): Promise<void> {
    for (const { spec } of [...this.processes].reverse()) await this.stop(spec.name);
  }

  logPath(name: string): string {
    return join(this.options.logsDir, `${name}.log`);
  }

  private spawn(spec: ProcessSpec): { child: ChildProcess; ended: Promise<void> } {
    const log = openSync(this.logPath(spec.name), 'a');
    const child = spawn(spec.command, spec.args, {
      detached: true,
      stdio: ['ignore', log, log],
      env: { ...spec.env, ...this.options.markOf?.(spec.name) },
    });
    closeSync(log);
    const ended = new Promise<void>((resolve) => {
      child.once('exit', () => resolve());
      child.once('error', () => resolve());
    });
    return { child, ended };
  }

  private watch(supervised: Supervised): void {
    const begun = Date.now();
    const { pid } = supervised.child;
    if (pid !== undefined) this.options.onEvent({ name: supervised.spec.name, kind: 'started', pid });
    void supervised.ended.then(async () => {
      if (supervised.stopping) return;
      const { exitCode, signalCode } = supervised.child;
      const detail = `${signalCode ?? `code ${exitCode}`}, log ${this.logPath(supervised.spec.name)}`;
      this.options.onEvent({ name: supervised.spec.name, kind: 'exited', detail });
      // A process that ran for a while starts again without a pause.
      const lived = Date.now() - begun;
      supervised.restarts = lived > this.options.maxRestartBackoffMs ? 1 : supervised.restarts + 1;
      const { restartBackoffMs, maxRestartBackoffMs } = this.options;
      if (supervised.restarts > 1)
        await delay(backoffMs(supervised.restarts - 1, restartBackoffMs, maxRestartBackoffMs));
      if (supervised.stopping) return;
      Object.assign(supervised, this.spawn(supervised.spec));
      this.watch(supervised);
    });
  }
}

function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    // Gone between the check and the kill.
  }
}
