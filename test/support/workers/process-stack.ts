/**
 * A Kiln whose workers are processes that can be killed: control worker and host worker over the fake driver, on
 * existing Temporal and S3 servers. Does not depend on vitest: `npm run chaos` uses it as well.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, readdir, rm, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Client, Connection } from '@temporalio/client';
import { createSessionClient, type SessionClient } from '../../../client/temporal/sessions/session-client.ts';
import { createWorkloadClient, type WorkloadClient } from '../../../client/temporal/workloads/workload-client.ts';
import { defined } from '../../../domain/defined.ts';
import type { WorkloadPolicyOverrides } from '../../../domain/policies.ts';
import { createObjectStore } from '../../../store/object-store.ts';
import { createWorkloadDocuments } from '../../../store/workloads/workload-documents.ts';
import { type JudgedHistory, judgeHistories } from '../histories/recorded-histories.ts';
import { whatIsLeft } from '../host/nothing-left.ts';
import { sessionBooksOf } from './harness-workers.ts';
import { FAST, FAST_SESSIONS, makeNamespace } from './kiln-harness.ts';
import type { PortError } from './port-errors.ts';
import type { Caller, GatedCall, Moment } from './port-gates.ts';
import { repeatingReads } from './session-steps.ts';
import {
  type ChildCommand,
  type ChildSpec,
  childReplySchema,
  objectStoreOptions,
  type Role,
} from './worker-messages.ts';

/** Between two looks at what is left. */
const CLEAR_POLL_MS = 20;
const CHILD = fileURLToPath(new URL('worker-child.ts', import.meta.url));

/** The servers of the run, the path of the bundle for its workers, and what differs from a Kiln of tests. */
export type ProcessStackOptions = Pick<ChildSpec, 'temporalAddress' | 's3' | 'workflowBundle'> &
  Partial<Pick<ChildSpec, 'guests' | 'leases'>>;

/** A worker or a gateway that runs until it is killed. */
export class WorkerProcess {
  /** Of a gateway. */
  url = '';
  private readonly child: ChildProcess;
  private readonly ended: Promise<void>;
  private readonly waiting = new Map<string, () => void>();
  private stderr = '';
  private count = 0;

  private constructor(spec: ChildSpec) {
    this.child = spawn(process.execPath, [CHILD, JSON.stringify(spec)], { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] });
    this.child.stderr?.setEncoding('utf8').on('data', (piece: string) => {
      this.stderr = (this.stderr + piece).slice(-4_000);
    });
    this.ended = new Promise((resolve) => this.child.once('exit', () => resolve()));
    this.child.on('message', (message) => {
      const reply = childReplySchema.parse(message);
      if (reply.kind === 'ready') this.url = reply.url ?? '';
      this.waiting.get(reply.kind === 'ready' ? 'ready' : `${reply.kind} ${reply.id}`)?.();
    });
  }

  /** Resolves once the worker takes tasks. */
  static async start(spec: ChildSpec): Promise<WorkerProcess> {
    const worker = new WorkerProcess(spec);
    const died = worker.ended.then(() => {
      throw new Error(`the ${spec.role} worker ended at its start: ${worker.stderr}`);
    });
    await Promise.race([worker.told('ready'), died]);
    return worker;
  }

  /** The next call of a port waits there forever. Resolves once this is set; `reached` resolves when a call arrives. */
  hold(port: string, moment: Moment, by: Caller = {}): Promise<GatedCall> {
    return this.command({ kind: 'hold', port, moment, by, error: 'fails' });
  }

  /** The next call of a port fails. Resolves once that is set. */
  fail(port: string, moment: Moment, error: PortError = 'store-away', by: Caller = {}): Promise<GatedCall> {
    return this.command({ kind: 'fail', port, moment, by, error });
  }

  /** `kill -9`. */
  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.ended;
  }

  /** Stops or continues it. */
  signal(signal: 'SIGSTOP' | 'SIGCONT'): void {
    this.child.kill(signal);
  }

  private async command(command: Omit<ChildCommand, 'id'>): Promise<GatedCall> {
    this.count += 1;
    const id = `${this.count}`;
    const [set, reached] = [this.told(`set ${id}`), this.told(`reached ${id}`)];
    // A process that is being killed does not receive this any more.
    this.child.send({ ...command, id } satisfies ChildCommand, () => undefined);
    await Promise.race([set, this.ended]);
    return { reached };
  }

  private told(what: string): Promise<void> {
    return new Promise((resolve) => this.waiting.set(what, resolve));
  }
}

export class ProcessStack {
  readonly temporal: Client;
  readonly workloads: WorkloadClient;
  readonly connection: Connection;
  private spec: Omit<ChildSpec, 'role'>;
  private readonly root: string;
  private machines = 1;
  readonly store: ReturnType<typeof createObjectStore>;
  private readonly workers = new Map<Role, WorkerProcess>();
  private readonly gateways: WorkerProcess[] = [];

  private constructor(connection: Connection, spec: Omit<ChildSpec, 'role'>) {
    this.connection = connection;
    this.spec = spec;
    this.root = spec.directory;
    this.temporal = new Client({ connection, namespace: spec.namespace });
    this.store = createObjectStore(objectStoreOptions(spec.s3));
    this.workloads = this.clientWith({});
  }

  static async start(options: ProcessStackOptions): Promise<ProcessStack> {
    const { temporalAddress, s3, workflowBundle, guests = 'fake', leases } = options;
    const connection = await Connection.connect({ address: temporalAddress });
    const stack = new ProcessStack(connection, {
      temporalAddress,
      workflowBundle,
      namespace: await makeNamespace(connection),
      directory: await mkdtemp(join(tmpdir(), 'kiln-fault-')),
      hostId: 'h1',
      guests,
      ...defined({ leases }),
      s3: { ...s3, bucket: `test-${randomUUID()}` },
    });
    await stack.store.ensureBucket();
    await Promise.all([stack.startWorker('host'), stack.startWorker('control')]);
    return stack;
  }

  /** @returns a client that creates workloads with `FAST` policies, replaced by these */
  clientWith(policies: WorkloadPolicyOverrides): WorkloadClient {
    const archive = createWorkloadDocuments(this.store);
    return createWorkloadClient({ client: this.temporal, archive, policies: { ...FAST, ...policies } });
  }

  /** @returns a client of sessions with `FAST_SESSIONS` policies, which repeats reads while the workers are away */
  sessions(): SessionClient {
    const books = sessionBooksOf(this.store, {});
    return repeatingReads(createSessionClient({ client: this.temporal, books, policies: FAST_SESSIONS }));
  }

  worker(role: Role): WorkerProcess {
    const worker = this.workers.get(role);
    if (worker === undefined) throw new Error(`no ${role} worker runs`);
    return worker;
  }

  async startWorker(role: Role): Promise<void> {
    this.workers.set(role, await WorkerProcess.start({ role, ...this.spec }));
  }

  /** Starts a gateway with policies `FAST_SESSIONS`; any number of them may run. */
  async startGateway(): Promise<WorkerProcess> {
    const gateway = await WorkerProcess.start({ role: 'gateway', ...this.spec });
    this.gateways.push(gateway);
    return gateway;
  }

  /** `kill -9`, then starts a new worker on the same state. */
  async replaceWorker(role: Role): Promise<void> {
    await this.worker(role).kill();
    await this.startWorker(role);
  }

  /**
   * A machine that is gone for good: its host worker and all of its VMs are killed, its disk is lost. Another one with a
   * new name takes its place, with the next directory.
   */
  async loseMachine(): Promise<void> {
    await this.worker('host').kill();
    await this.clear();
    this.machines += 1;
    const directory = join(this.root, `m${this.machines}`);
    this.spec = { ...this.spec, hostId: `h${this.machines}`, directory };
    await mkdir(directory);
    await this.startWorker('host');
  }

  /** Ends what runs on the machine, and removes its files. */
  private async clear(): Promise<void> {
    const { directory } = this.spec;
    let left = await this.left();
    // What a dying process holds cannot be removed yet, and it may have made another one.
    for (; left.some((line) => line.startsWith('process ')); left = await this.left()) {
      for (const line of left) {
        const pid = /^process (\d+):/.exec(line)?.[1];
        if (pid !== undefined) killIfThere(Number(pid));
      }
      await delay(CLEAR_POLL_MS);
    }
    for (const line of left) {
      const group = /^control group (.*)$/.exec(line)?.[1];
      if (group !== undefined) await removeGroup(group);
    }
    await Promise.all(['host', 'run'].map((part) => rm(join(directory, part), { recursive: true, force: true })));
  }

  /** State directory of the host. */
  get stateDir(): string {
    return join(this.spec.directory, 'host');
  }

  /** @returns what the host still holds, one line for each thing */
  left(): Promise<string[]> {
    const { directory } = this.spec;
    return whatIsLeft({ stateDir: join(directory, 'host'), runtimeDir: join(directory, 'run') });
  }

  /** @returns what the host still holds once it has had that long to let go of it, one line for each thing */
  async leftAfter(settleMs: number): Promise<string[]> {
    const deadline = Date.now() + settleMs;
    for (;;) {
      const left = await this.left();
      if (left.length === 0 || Date.now() > deadline) return left;
      await delay(CLEAR_POLL_MS);
    }
  }

  /** Runs the projector over every history of this Kiln and replays it. */
  judge(): Promise<JudgedHistory[]> {
    return judgeHistories(this.temporal, this.spec.workflowBundle);
  }

  /** Ends the workers, and all processes that a failed test has left. */
  async close(): Promise<void> {
    await this.abandon();
    this.store.close();
    await this.connection.close();
  }

  /** Like `close`, but does not close the clients, whose calls may still be in progress until this process ends. */
  async abandon(): Promise<void> {
    for (const worker of [...this.workers.values(), ...this.gateways]) await worker.kill();
    await this.clear();
    await rm(this.root, { recursive: true, force: true, maxRetries: 10 });
  }
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It ended with its parent.
  }
}

async function removeGroup(directory: string): Promise<void> {
  for (const entry of await readdir(directory, { withFileTypes: true }).catch(() => [])) {
    if (entry.isDirectory()) await removeGroup(join(directory, entry.name));
  }
  await rmdir(directory).catch(() => undefined);
}
