import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import writeFileAtomic from 'write-file-atomic';
import type { KilnEnvironment, StackPaths } from '../../config/environment.ts';
import type { SetupRecord } from '../../config/setup-record.ts';
import type { DevStack as StackInfo } from '../../contracts/host/dev-stack.ts';
import { defined } from '../../domain/defined.ts';
import { freePort } from './free-port.ts';
import { endLeftProcesses, PROCESSES_FILE, processMark, recordProcesses } from './left-processes.ts';
import { closeHome } from './private-home.ts';
import { ProcessSupervisor, type SupervisorEvent, type SupervisorOptions } from './process-supervisor.ts';
import { stackIdentity } from './stack-identity.ts';
import { lockStack } from './stack-lock.ts';
import {
  chooseAddresses,
  kilnEnvironment,
  kilnProcesses,
  type StackPlan,
  s3Server,
  temporalServer,
} from './stack-processes.ts';

export interface DevStackOptions {
  readonly env: KilnEnvironment;
  readonly paths: StackPaths;
  readonly setup: SetupRecord;
  /** Environment that the processes inherit. */
  readonly baseEnv: Readonly<Record<string, string | undefined>>;
  /** Services' paths are relative to this folder. */
  readonly projectRoot: string;
  readonly timings: Omit<SupervisorOptions, 'logsDir' | 'markOf' | 'onEvent'>;
  readonly onProgress: (text: string) => void;
  readonly onEvent: (event: SupervisorEvent) => void;
}

export interface DevStack {
  /** What `dev.json` says. */
  readonly info: StackInfo;
  pids(): Record<string, number>;
  /** Ends every process. It does not touch VMs. */
  stop(): Promise<void>;
}

/**
 * Starts Temporal, the S3 server, both workers and the gateway, and supervises them. `dev.json` is there exactly while
 * everything answers. @throws CONFLICT if a stack already runs on this home, TIMED_OUT if a process does not answer
 */
export async function startDevStack(options: DevStackOptions, signal: AbortSignal): Promise<DevStack> {
  const { paths } = options;
  const unlock = await lockStack(paths.home);
  await closeHome(paths.home);
  await rm(paths.devJson, { force: true });
  await mkdir(paths.logsDir, { recursive: true });
  const record = join(paths.home, PROCESSES_FILE);
  const { stopGraceMs: graceMs, readyPollMs: pollMs } = options.timings;
  for (const name of await endLeftProcesses(record, paths.home, { graceMs, pollMs }))
    options.onProgress(`ended ${name} of an earlier run`);
  // One after another, so that an older list never replaces a newer one.
  let recorded = Promise.resolve();
  const supervisor: ProcessSupervisor = new ProcessSupervisor({
    ...options.timings,
    logsDir: paths.logsDir,
    markOf: (name) => processMark(paths.home, name),
    onEvent: (event) => {
      if (event.kind === 'started') {
        const failed = (error: unknown) => options.onProgress(`${record} could not be written: ${String(error)}`);
        recorded = recorded.then(() => recordProcesses(record, supervisor.pids())).catch(failed);
      }
      options.onEvent(event);
    },
  });
  const stop = async () => {
    await rm(paths.devJson, { force: true });
    await supervisor.stopAll();
    await recorded;
    await rm(record, { force: true });
    await unlock();
  };
  try {
    const plan = await planStack(options);
    const apiPort = await startProcesses(plan, supervisor, options, signal);
    const info = stackInfo(plan, apiPort);
    await writeFileAtomic(paths.devJson, `${JSON.stringify(info, null, 2)}\n`, { mode: 0o600 });
    return { info, pids: () => supervisor.pids(), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function planStack(options: DevStackOptions): Promise<StackPlan> {
  const { env, paths, setup, baseEnv, projectRoot } = options;
  const addresses = await chooseAddresses({
    ...defined({ temporalAddress: env.TEMPORAL_ADDRESS, temporalUiUrl: env.KILN_TEMPORAL_UI_URL }),
    namespace: env.TEMPORAL_NAMESPACE,
    ...defined({ s3Endpoint: env.KILN_S3_ENDPOINT }),
    bucket: env.KILN_S3_BUCKET,
  });
  return { paths, setup, baseEnv, projectRoot, addresses, identity: await stackIdentity(paths.home) };
}

/** @returns the port of the API, chosen as late as possible: until the gateway listens, anyone can take it. */
async function startProcesses(
  plan: StackPlan,
  supervisor: ProcessSupervisor,
  options: DevStackOptions,
  signal: AbortSignal,
): Promise<number> {
  for (const server of [await temporalServer(plan), await s3Server(plan)]) {
    if (!server) continue;
    await supervisor.start(server, signal);
    options.onProgress(`${server.name} answers`);
  }
  const { prepareStore } = await import('../../workers/prepare-store.ts');
  await prepareStore(kilnEnvironment(plan), options.setup, options.onProgress);
  const apiPort = await freePort(options.env.KILN_API_PORT);
  for (const process of kilnProcesses(plan, apiPort)) await supervisor.start(process, signal);
  options.onProgress('workers and gateway answer');
  return apiPort;
}

function stackInfo(plan: StackPlan, apiPort: number): StackInfo {
  const { addresses, identity } = plan;
  return {
    pid: process.pid,
    apiUrl: `http://127.0.0.1:${apiPort}`,
    token: identity.apiToken,
    temporal: addresses.temporal,
    s3: addresses.s3,
    hostId: identity.hostId,
  };
}
