/** One Temporal dev server and one S3 server for a whole test run, for all of its vitest projects. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Connection } from '@temporalio/client';
import type { TestProject } from 'vitest/node';
import { inheritedEnvironment, type KilnEnvironment, readEnvironment } from '../../../config/environment.ts';
import { readSetupRecord, type SetupRecord } from '../../../config/setup-record.ts';
import { createObjectStore } from '../../../store/object-store.ts';
import { devServerArguments } from '../../../temporal/dev-server.ts';
import { ensureSearchAttributes } from '../../../temporal/namespace.ts';
import { makeWorkflowBundle } from './workflow-bundle.ts';

export interface TestS3 {
  readonly endpoint: string;
  readonly region: string;
  readonly bucket: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

declare module 'vitest' {
  interface ProvidedContext {
    temporalAddress: string;
    temporalNamespace: string;
    s3: TestS3;
    workflowBundle: string;
  }
}

interface SharedServers {
  servers?: Promise<Servers>;
  users: number;
}

declare global {
  var kilnTestServers: SharedServers | undefined;
}

export interface Servers {
  /** Pids of the processes that run now, by name; empty for servers that existed already. */
  readonly pids: Readonly<Record<string, number>>;
  readonly temporalAddress: string;
  readonly temporalNamespace: string;
  readonly s3: TestS3;
  /** Path of the bundle that workers run (workflow-bundle.ts). */
  readonly workflowBundle: string;
  /** `kill -9` of a server that was started here, by its name in `pids`. */
  kill(name: string): Promise<void>;
  /** Starts it again, at the same address and on the same data. */
  startAgain(name: string): void;
  stop(): Promise<void>;
}

/** vitest loads this file once for each project, so shared state is attached to the process. */
const shared: SharedServers = sharedState();

const READY_DEADLINE_MS = 60_000;
const RETRY_MS = 100;
const STOP_GRACE_MS = 5_000;

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  shared.users += 1;
  shared.servers ??= startServers();
  const servers = await shared.servers;
  project.provide('temporalAddress', servers.temporalAddress);
  project.provide('temporalNamespace', servers.temporalNamespace);
  project.provide('s3', servers.s3);
  project.provide('workflowBundle', servers.workflowBundle);
  return async () => {
    shared.users -= 1;
    if (shared.users === 0) await servers.stop();
  };
}

function sharedState(): SharedServers {
  globalThis.kilnTestServers ??= { users: 0 };
  return globalThis.kilnTestServers;
}

const DIRECTORY = 'kiln-servers-';

/** When a run is killed, its servers end with it, but their files stay. */
async function sweepAbandoned(): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    const pid = /^kiln-servers-(\d+)-/.exec(name)?.[1];
    if (pid !== undefined && !isAlive(Number(pid))) await rm(join(tmpdir(), name), { recursive: true, force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return !(error instanceof Error && 'code' in error && error.code === 'ESRCH');
  }
}

/**
 * Starts a Temporal dev server and an S3 server that die with this process.
 * @param env names servers that exist already, which are used instead
 */
export async function startServers(env = readEnvironment()): Promise<Servers> {
  const record = readSetupRecord();
  await sweepAbandoned();
  const directory = await mkdtemp(join(tmpdir(), `${DIRECTORY}${process.pid}-`));
  const children: ServerProcess[] = [];
  const stop = async (): Promise<void> => {
    await Promise.all(children.map((child) => child.stop()));
    await rm(directory, { recursive: true, force: true });
  };
  try {
    const [workflowBundle, temporalAddress, s3] = await Promise.all([
      makeWorkflowBundle(directory),
      startTemporal(env, record, directory, children),
      startS3(env, record, directory, children),
    ]);
    return {
      workflowBundle,
      temporalAddress,
      s3,
      temporalNamespace: env.TEMPORAL_NAMESPACE,
      get pids() {
        return Object.fromEntries(children.map((child) => [child.name, child.pid]));
      },
      kill: (name) => named(children, name).kill(),
      startAgain: (name) => named(children, name).startAgain(),
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Servers of the caller's own, which it may kill, wherever those of the run are. */
export function startOwnServers(): Promise<Servers> {
  const own = { TEMPORAL_ADDRESS: undefined, KILN_S3_ENDPOINT: undefined };
  return startServers(readEnvironment({ ...inheritedEnvironment(), ...own }));
}

function named(children: readonly ServerProcess[], name: string): ServerProcess {
  const child = children.find((one) => one.name === name);
  if (child === undefined) throw new Error(`${name} was not started here`);
  return child;
}

/**
 * The server deletes a closed execution only after the queues of its shard have confirmed that they are done with it.
 * By default they do so every half minute, and tests of forgotten executions would only wait for that.
 */
const QUICK_TO_FORGET = ['transfer', 'timer', 'visibility'].map(
  (queue) => `history.${queue}ProcessorUpdateAckInterval="1s"`,
);

async function startTemporal(
  env: KilnEnvironment,
  record: SetupRecord,
  directory: string,
  children: ServerProcess[],
): Promise<string> {
  const namespace = env.TEMPORAL_NAMESPACE;
  let address = env.TEMPORAL_ADDRESS;
  if (address === undefined) {
    const port = await freePort();
    address = `127.0.0.1:${port}`;
    const databasePath = join(directory, 'temporal.db');
    const args = [
      ...devServerArguments({ port, uiPort: await freePort(), namespace, databasePath }),
      ...QUICK_TO_FORGET.map((setting) => `--dynamic-config-value=${setting}`),
    ];
    const program = present(record.temporalPath, 'TEMPORAL_ADDRESS');
    children.push(new ServerProcess('temporal', [program, ...args, '--headless'], {}, join(directory, 'temporal.log')));
  }
  await untilReady('Temporal', children, async () => {
    const connection = await Connection.connect({ address, connectTimeout: 1_000 });
    try {
      await ensureSearchAttributes(connection, namespace, { deadlineMs: READY_DEADLINE_MS, retryMs: RETRY_MS });
    } finally {
      await connection.close();
    }
  });
  return address;
}

async function startS3(
  env: KilnEnvironment,
  record: SetupRecord,
  directory: string,
  children: ServerProcess[],
): Promise<TestS3> {
  const accessKeyId = env.KILN_S3_ACCESS_KEY ?? 'kiln-test';
  const secretAccessKey = env.KILN_S3_SECRET_KEY ?? 'kiln-test-secret';
  let endpoint = env.KILN_S3_ENDPOINT;
  if (endpoint === undefined) {
    const data = join(directory, 's3');
    await mkdir(data);
    const port = await freePort();
    endpoint = `http://127.0.0.1:${port}`;
    const program = present(record.versitygwPath, 'KILN_S3_ENDPOINT');
    const keys = { ROOT_ACCESS_KEY: accessKeyId, ROOT_SECRET_KEY: secretAccessKey };
    const argv = [program, '--port', `127.0.0.1:${port}`, '--keep-alive', 'posix', data];
    children.push(new ServerProcess('versitygw', argv, keys, join(directory, 's3.log')));
  }
  const s3: TestS3 = { endpoint, region: env.KILN_S3_REGION, bucket: 'kiln-test', accessKeyId, secretAccessKey };
  const store = createObjectStore({
    endpoint,
    region: s3.region,
    bucket: s3.bucket,
    credentials: { accessKeyId, secretAccessKey },
    forcePathStyle: true,
    timeouts: { connectMs: 1_000, idleMs: 5_000, attempts: 1 },
  });
  await untilReady('the S3 server', children, () => store.ensureBucket());
  store.close();
  return s3;
}

function present(path: string | undefined, variable: string): string {
  if (path !== undefined) return path;
  throw new Error(
    `Set-up found ${variable} set and built no server, but it is not set now: run \`npm run setup\` again.`,
  );
}

async function untilReady(
  what: string,
  children: readonly ServerProcess[],
  attempt: () => Promise<void>,
): Promise<void> {
  const deadline = Date.now() + READY_DEADLINE_MS;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      for (const child of children) await child.throwIfDead();
      if (Date.now() >= deadline)
        throw new Error(`${what} did not answer within ${READY_DEADLINE_MS} ms`, { cause: error });
      await delay(RETRY_MS);
    }
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no free TCP port');
  return address.port;
}

/** A server that ends with this process, however this process ends. */
class ServerProcess {
  readonly name: string;
  private child: ChildProcess;
  private exited: Promise<void>;
  private readonly argv: readonly string[];
  private readonly logPath: string;

  constructor(name: string, argv: readonly string[], env: Readonly<Record<string, string>>, logPath: string) {
    this.name = name;
    this.logPath = logPath;
    const assignments = Object.entries(env).map(([key, value]) => `${key}=${value}`);
    this.argv = ['--pdeathsig', 'KILL', 'env', ...assignments, ...argv];
    this.child = this.spawn();
    this.exited = exitOf(this.child);
  }

  startAgain(): void {
    this.child = this.spawn();
    this.exited = exitOf(this.child);
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  async throwIfDead(): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null && this.child.pid !== undefined) return;
    const log = await readFile(this.logPath, 'utf8').catch(() => '');
    throw new Error(`${this.name} ended at start: ${log.slice(-2000)}`);
  }

  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.exited;
  }

  async stop(): Promise<void> {
    this.child.kill('SIGTERM');
    const force = setTimeout(() => this.child.kill('SIGKILL'), STOP_GRACE_MS);
    await this.exited;
    clearTimeout(force);
  }

  private spawn(): ChildProcess {
    // setpriv: the kernel ends the server when this process is gone. setsid: Ctrl-C must reach only the tests.
    const child = spawn('setpriv', this.argv, { stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    const log = createWriteStream(this.logPath, { flags: 'a' });
    child.stdout?.pipe(log, { end: false });
    child.stderr?.pipe(log, { end: false });
    return child;
  }
}

function exitOf(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    child.once('error', () => resolve());
    child.once('exit', () => resolve());
  });
}
