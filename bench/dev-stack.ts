/** A stack as `kiln dev` starts it, on a home of its own, and the few calls that a measurement makes. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { cp, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { createKilnClient } from '../client/http/index.ts';
import { CHECKOUT, CLI_ENTRY } from '../config/checkout.ts';
import type { CreateWorkloadBody } from '../contracts/api/workload-request.ts';
import type { WorkloadView } from '../contracts/api/workload-view.ts';
import { DEV_STACK_FILE, type DevStack, devStackSchema } from '../contracts/host/dev-stack.ts';
import { isFinal, type Stage } from '../domain/workload/stages.ts';

const READY_DEADLINE_MS = 120_000;
const STAGE_DEADLINE_MS = 300_000;
const POLL_MS = 100;

export interface BenchStack {
  readonly info: DevStack;
  create(body: CreateWorkloadBody): Promise<WorkloadView>;
  /** Waits until the workload has entered `stage`. @throws Error where it ends in another one */
  until(id: string, stage: Stage): Promise<WorkloadView>;
  stop(id: string): Promise<void>;
  /** Ends the stack and everything that it runs. */
  close(): Promise<void>;
}

/** Starts `kiln dev` in `directory`, with the example services as its project. @param env laid over this process's own */
export async function startBenchStack(
  directory: string,
  signal: AbortSignal,
  env: Readonly<Record<string, string>> = {},
): Promise<BenchStack> {
  const project = join(directory, 'project');
  const home = join(directory, 'home');
  await mkdir(project, { recursive: true });
  await cp(join(CHECKOUT, 'examples'), project, { recursive: true, filter: (path) => !path.includes('node_modules') });
  const log = join(directory, 'dev.log');
  const child = spawn(
    'env',
    [
      ...Object.entries(env).map(([name, value]) => `${name}=${value}`),
      `KILN_HOME=${home}`,
      `KILN_PROJECT_ROOT=${project}`,
      ...[process.execPath, CLI_ENTRY, 'dev'],
    ],
    {
      cwd: project,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  const output = createWriteStream(log);
  child.stdout.pipe(output, { end: false });
  child.stderr.pipe(output, { end: false });
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const close = async (): Promise<void> => {
    child.kill('SIGTERM');
    await exited;
  };
  try {
    const info = await untilReady(join(home, DEV_STACK_FILE), child, log, signal);
    return { info, ...workloadCalls(info, signal), close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function untilReady(path: string, child: ChildProcess, log: string, signal: AbortSignal): Promise<DevStack> {
  const deadline = Date.now() + READY_DEADLINE_MS;
  for (;;) {
    const text = await readFile(path, 'utf8').catch(() => undefined);
    if (text !== undefined) return devStackSchema.parse(JSON.parse(text));
    if (child.exitCode !== null || child.signalCode !== null || Date.now() > deadline) {
      throw new Error(`the stack did not start: ${(await readFile(log, 'utf8')).slice(-2_000)}`);
    }
    await delay(POLL_MS, undefined, { signal });
  }
}

function workloadCalls(
  { apiUrl, token }: DevStack,
  signal: AbortSignal,
): Pick<BenchStack, 'create' | 'until' | 'stop'> {
  const client = createKilnClient({ apiUrl, token });
  return {
    create: (body) => client.createWorkload({ body }, { signal }),
    until: async (id, stage) => {
      const deadline = Date.now() + STAGE_DEADLINE_MS;
      for (;;) {
        const view = await client.getWorkload({ params: { id } }, { signal });
        if (view.stage === stage) return view;
        if (isFinal(view.stage)) throw new Error(`${id} ended ${view.stage}: ${view.code ?? ''} ${view.error ?? ''}`);
        if (Date.now() > deadline) throw new Error(`${id} is still ${view.stage}`);
        await delay(POLL_MS, undefined, { signal });
      }
    },
    stop: async (id) => {
      await client.stopWorkload({ params: { id } }, { signal });
    },
  };
}

/** @returns milliseconds since 1970 with more digits than `Date.now()` has. */
export function preciseNow(): number {
  return performance.timeOrigin + performance.now();
}
