/** Runs the command line in a test: real commands, captured streams, and an API that the test defines. */
import type { CliContext } from '../../../cli/cli-context.ts';
import { runCli } from '../../../cli/run-cli.ts';
import type { KilnClient } from '../../../client/http/kiln-client.ts';
import { createSession } from '../../../client/http/sessions/session.ts';
import { type WorkloadView, workloadView } from '../../../contracts/api/workload-view.ts';
import { KilnError } from '../../../domain/failures.ts';
import { canMove, type Stage } from '../../../domain/workload/stages.ts';
import type { WorkloadState } from '../../../domain/workload/workload.ts';

export interface CliResult {
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode: number;
}

const NOT_GIVEN = 'the test gave no answer for this call';

/** @returns an API on which every call that the test did not define fails. */
export function apiWith(methods: Partial<KilnClient>): KilnClient {
  const refuse = () => Promise.reject(new KilnError('UNSUPPORTED', NOT_GIVEN));
  const api: KilnClient = {
    createWorkload: refuse,
    getWorkload: refuse,
    listWorkloads: refuse,
    stopWorkload: refuse,
    workloadHistory: refuse,
    workloadLogs: refuse,
    streamWorkloadLogs: () => {
      throw new KilnError('UNSUPPORTED', NOT_GIVEN);
    },
    createSession: refuse,
    listSessions: refuse,
    getSession: refuse,
    patchSession: refuse,
    closeSession: refuse,
    deleteSession: refuse,
    sleepSession: refuse,
    forkSession: refuse,
    sendRun: refuse,
    listRuns: refuse,
    getRun: refuse,
    cancelRun: refuse,
    listSessionFiles: refuse,
    deleteSessionFile: refuse,
    getSessionFile: refuse,
    putSessionFile: refuse,
    listTurns: refuse,
    getTurn: refuse,
    listTurnFiles: refuse,
    getTurnTar: refuse,
    streamRunOutput: () => {
      throw new KilnError('UNSUPPORTED', NOT_GIVEN);
    },
    session: (thread, options = {}) => createSession(api, thread, options),
    uploadSource: refuse,
    getSource: refuse,
    createDeployment: refuse,
    listDeployments: refuse,
    getDeployment: refuse,
    listHosts: refuse,
    listPools: refuse,
    drainHost: refuse,
    recordArchive: refuse,
    listImages: refuse,
    healthz: refuse,
    readyz: refuse,
    ...methods,
  };
  return api;
}

export interface CliWorld {
  readonly api?: Partial<KilnClient>;
  /** Thrown when a command looks for a stack. */
  readonly noStack?: KilnError;
  /** Aborted in place of Ctrl-C. */
  readonly interrupt?: AbortSignal;
  /** The same for the Ctrl-C after that. */
  readonly interruptAgain?: AbortSignal;
  /** Called with everything that is written, as it is written; `false`: no more for now. */
  readonly onWrite?: (stream: 'stdout' | 'stderr', data: string | Uint8Array) => unknown;
  /** Given what to call once there is room again. */
  readonly onDrain?: (listener: () => void) => void;
}

/** Runs a command line until it ends. */
export async function kiln(args: readonly string[], world: CliWorld = {}): Promise<CliResult> {
  const written: Record<'stdout' | 'stderr', Buffer[]> = { stdout: [], stderr: [] };
  let exitCode = 0;
  const sink = (stream: 'stdout' | 'stderr') => ({
    write: (data: string | Uint8Array) => {
      written[stream].push(Buffer.from(data));
      return world.onWrite?.(stream, data);
    },
    ...(world.onDrain && { once: (_event: 'drain', listener: () => void) => world.onDrain?.(listener) }),
  });
  const interrupts = [world.interrupt, world.interruptAgain];
  const api = apiWith(world.api ?? {});
  const findStack = async () => {
    if (world.noStack) throw world.noStack;
    return { apiUrl: 'http://127.0.0.1:4800', token: 'secret-token', source: 'test' };
  };
  const context: CliContext = {
    stdout: sink('stdout'),
    stderr: sink('stderr'),
    findStack,
    connect: async () => {
      await findStack();
      return api;
    },
    interruptible: () => ({ signal: interrupts.shift() ?? new AbortController().signal, release: () => undefined }),
    begin: () => undefined,
    exit: (code) => {
      exitCode = code;
    },
    now: () => Date.parse(at(100)),
    timings: { pollMs: 1, giveUpAfterMs: 1000 },
  };
  await runCli(args, context);
  const text = (stream: 'stdout' | 'stderr') => Buffer.concat(written[stream]).toString();
  return { stdout: text('stdout'), stderr: text('stderr'), exitCode };
}

/** @returns the ISO time `seconds` after a fixed moment. */
export function at(seconds: number): string {
  return new Date(Date.UTC(2030, 0, 1, 12, 0, 0) + Math.round(seconds * 1000)).toISOString();
}

/** @returns the view of a workload that entered each stage at the given second; the first stage is `pending`. */
export function viewAt(path: readonly (readonly [Stage, number])[], extra: Partial<WorkloadState> = {}): WorkloadView {
  const [[, createdAt] = ['pending', 0]] = path;
  const moves = path.slice(1).map(([to, second], index) => {
    const from = path[index]?.[0] ?? 'pending';
    if (!canMove(from, to)) throw new Error(`no workload moves from ${from} to ${to}`);
    return { seq: index + 1, at: at(second), from, to, cause: to === 'stopped' ? 'stop: no longer needed' : 'done' };
  });
  const last = path.at(-1) ?? (['pending', 0] as const);
  return workloadView({
    workloadId: 'hello-1',
    servicePath: 'services/hello',
    stage: last[0],
    notes: [],
    unreleased: [],
    moves,
    createdAt: at(createdAt),
    updatedAt: at(last[1]),
    ...extra,
  });
}
