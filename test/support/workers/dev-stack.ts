/** A stack as its user runs it: `kiln dev` in a process of its own, on a home of its own. */

import { type ChildProcess, spawn } from 'node:child_process';
import { access, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { PROCESSES_FILE, readRecorded } from '../../../cli/dev/left-processes.ts';
import { createKilnClient, type KilnClient } from '../../../client/http/kiln-client.ts';
import { CHECKOUT, CLI_ENTRY } from '../../../config/checkout.ts';
import { inheritedEnvironment, readEnvironment, type StackPaths, stackPaths } from '../../../config/environment.ts';
import { readSetupRecord } from '../../../config/setup-record.ts';
import type { WorkloadView } from '../../../contracts/api/workload-view.ts';
import { type DevStack, devStackSchema } from '../../../contracts/host/dev-stack.ts';
import { instanceRecordSchema } from '../../../contracts/host/instance-record.ts';
import { isKilnError } from '../../../domain/failures.ts';
import { workloadWorkflowId } from '../../../domain/names.ts';
import type { VmRole } from '../../../domain/vm.ts';
import { isFinal, type Stage } from '../../../domain/workload/stages.ts';
import { directoryEntries } from '../../../linux/directory-entries.ts';
import { processStartTime } from '../../../linux/process-identity.ts';
import { whatIsLeft } from '../host/nothing-left.ts';

const POLL_MS = 50;
/** Interval between looks: each costs every process behind the API something, which counts while a guest boots. */
const LOOK_MS = 250;

/** Pid and start time (clock ticks since the machine's boot): together they identify one process. */
export interface ProcessIdentity {
  readonly pid: number;
  readonly startTime: string;
}

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A program of the checkout that runs as a child process, with its output so far. */
export interface Program {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  readonly stdout: () => string;
  readonly stderr: () => string;
}

/** The home folder of one stack, with methods to start programs on it. */
export class StackHome {
  readonly paths: StackPaths;
  private readonly env: Record<string, string | undefined>;

  private constructor(home: string, more: Readonly<Record<string, string>>) {
    const inherited = inheritedEnvironment();
    // This stack must not use settings of this run (servers, names, tokens): they belong to other stacks.
    const foreign = Object.keys(inherited).filter((name) => /^(KILN_(?!CACHE$)|TEMPORAL_)/.test(name));
    this.env = {
      ...inherited,
      ...Object.fromEntries(foreign.map((name) => [name, undefined])),
      ...more,
      KILN_HOME: home,
    };
    this.paths = stackPaths(readEnvironment(this.env), process.getuid?.() ?? 0);
  }

  /** @param env variables for its programs */
  static async make(env: Readonly<Record<string, string>> = {}): Promise<StackHome> {
    return new StackHome(await mkdtemp(join(tmpdir(), 'kiln-home-')), env);
  }

  /**
   * Starts a program on this home. If this test process dies, the program gets SIGTERM.
   * @param projectRoot folder that paths of services are relative to; default: the checkout
   */
  run(argv: readonly string[], projectRoot = CHECKOUT): Program {
    // It stays in the process group of the tests, so that Ctrl-C on a test run reaches the stack as well.
    const child = spawn('setpriv', ['--pdeathsig', 'TERM', ...argv], {
      cwd: CHECKOUT,
      env: { ...this.env, KILN_PROJECT_ROOT: projectRoot },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const [stdout, stderr] = [textOf(child.stdout), textOf(child.stderr)];
    const ended = new Promise<Ended>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code, signal) => resolve({ code, signal }));
    });
    return { child, ended, stdout, stderr };
  }

  /** Runs the `kiln` command. */
  kiln(args: readonly string[], projectRoot?: string): Program {
    return this.run([readSetupRecord().nodePath, CLI_ENTRY, ...args], projectRoot);
  }

  /** Starts `kiln dev` and waits until it has printed its addresses. */
  async startDev(projectRoot?: string): Promise<RunningStack> {
    const program = this.kiln(['dev', '--json'], projectRoot);
    let isOver = false;
    const over = () => {
      isOver = true;
    };
    program.ended.then(over, over);
    while (!program.stdout().includes('\n')) {
      if (isOver) throw new Error(`kiln dev ended before it answered: ${program.stderr()}`);
      await delay(POLL_MS);
    }
    return new RunningStack(this.paths, program, devStackSchema.parse(JSON.parse(program.stdout())));
  }

  /** Waits until a workload has a VM of this role with a running process. @returns its pid */
  async vmPid(workloadId: string, role: VmRole): Promise<number> {
    for (;;) {
      for (const vmId of await directoryEntries(join(this.paths.hostDir, 'vms'))) {
        const text = await readFile(join(this.paths.hostDir, 'vms', vmId, 'instance.json'), 'utf8').catch(() => '{}');
        const { success, data } = instanceRecordSchema.safeParse(JSON.parse(text));
        if (!success || data.owner.workflowId !== workloadWorkflowId(workloadId) || data.owner.role !== role) continue;
        if (data.process !== undefined && data.exit === undefined) return data.process.pid;
      }
      await delay(POLL_MS);
    }
  }

  /** @returns one line for each thing of this stack that still exists; empty = nothing */
  async left(ports: readonly number[] = []): Promise<string[]> {
    const places = { stateDir: this.paths.hostDir, runtimeDir: this.paths.runtimeDir, ports };
    const pids = await this.processes();
    const directory = await access(places.runtimeDir).then(
      () => [`directory of sockets ${places.runtimeDir}`],
      () => [],
    );
    return [...pids.map((pid) => `process ${pid} of the stack`), ...directory, ...(await whatIsLeft(places))];
  }

  /** Kills everything that a failed test has left, and removes the home. */
  async remove(): Promise<void> {
    for (const pid of await this.processes()) endByForce(pid);
    const places = { stateDir: this.paths.hostDir, runtimeDir: this.paths.runtimeDir };
    for (const line of await whatIsLeft(places)) {
      const pid = /^process (\d+):/.exec(line)?.[1];
      if (pid !== undefined) endByForce(Number(pid));
    }
    await rm(this.paths.runtimeDir, { recursive: true, force: true });
    await rm(this.paths.home, { recursive: true, force: true, maxRetries: 10 });
  }

  /** @returns pids of all processes with this home in their environment; VMs have no such environment */
  private async processes(): Promise<number[]> {
    const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
    const wanted = `KILN_HOME=${this.paths.home}`;
    const environments = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '')));
    return pids.filter((_, index) => environments[index]?.split('\0').includes(wanted));
  }
}

/** A `kiln dev` that answers. */
export class RunningStack {
  readonly info: DevStack;
  readonly api: KilnClient;
  readonly program: Program;
  private readonly paths: StackPaths;

  constructor(paths: StackPaths, program: Program, info: DevStack) {
    this.paths = paths;
    this.program = program;
    this.info = info;
    this.api = createKilnClient({ apiUrl: info.apiUrl, token: info.token });
  }

  /** Sends a signal to `kiln dev` itself and waits for its end. */
  async end(signal: NodeJS.Signals): Promise<Ended> {
    process.kill(this.info.pid, signal);
    return this.program.ended;
  }

  /** @returns the processes that the stack has recorded in its home, by name */
  async processes(): Promise<Readonly<Record<string, ProcessIdentity>>> {
    return readRecorded(join(this.paths.home, PROCESSES_FILE));
  }

  /** Kills one process of the stack. @returns the process that was started in its place */
  async killProcess(name: string): Promise<ProcessIdentity> {
    const killed = (await this.processes())[name];
    if (killed === undefined || (await processStartTime(killed.pid)) !== killed.startTime) {
      throw new Error(`${name} does not run`);
    }
    process.kill(killed.pid, 'SIGKILL');
    for (;;) {
      const next = (await this.processes())[name];
      if (next !== undefined && next.startTime !== killed.startTime) return next;
      await delay(POLL_MS);
    }
  }

  /**
   * Waits until a workload is in one of the stages, as answered by its own workflow; outages behind the API do not end
   * the wait. @throws if the workload ends in another stage
   */
  async untilStage(id: string, ...stages: Stage[]): Promise<WorkloadView> {
    return this.until(id, (view) => {
      // Without a control worker the API only knows the stage and what the workload waits for.
      if (stages.includes(view.stage)) return view.waiting === undefined;
      if (!isFinal(view.stage)) return false;
      throw new Error(`${id} is ${view.stage}, not ${stages.join(' or ')}: ${view.code} ${view.error} ${view.stack}`);
    });
  }

  /** Waits until a line in the log of a workload contains `message`. */
  async untilLogged(id: string, message: string): Promise<WorkloadView> {
    return this.until(id, ({ logs, stage, error }) => {
      if (logs.some((entry) => entry.message.includes(message))) return true;
      if (stage === 'running' || isFinal(stage)) throw new Error(`${id} is ${stage} without "${message}": ${error}`);
      return false;
    });
  }

  private async until(id: string, holds: (view: WorkloadView) => boolean): Promise<WorkloadView> {
    for (;;) {
      const view = await throughOutages(() => this.api.getWorkload({ params: { id } }));
      if (holds(view)) return view;
      await delay(LOOK_MS);
    }
  }
}

/** Repeats a call, like any caller should, while a server behind it is unavailable. */
export async function throughOutages<T>(call: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await call();
    } catch (error) {
      if (!isKilnError(error) || !/^(TEMPORAL|STORE|API)_UNAVAILABLE$/.test(error.code)) throw error;
      await delay(POLL_MS);
    }
  }
}

/** Sends requests to a service until it answers. @returns the body */
export async function answerOf(url: string | undefined): Promise<string> {
  if (url === undefined) throw new Error('the workload has no url');
  for (;;) {
    try {
      const response = await fetch(url, { signal: AbortSignal.timeout(5_000) });
      if (response.ok) return await response.text();
    } catch {
      // Nothing listens yet.
    }
    await delay(POLL_MS);
  }
}

function textOf(stream: NodeJS.ReadableStream | null): () => string {
  let text = '';
  stream?.setEncoding('utf8').on('data', (piece: string) => {
    text += piece;
  });
  return () => text;
}

function endByForce(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has already ended.
  }
}
