import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { CLI_ENTRY } from '../../config/checkout.ts';
import type { StackPaths } from '../../config/environment.ts';
import { serviceNodeFlags } from '../../config/service-node-flags.mjs';
import type { SetupRecord } from '../../config/setup-record.ts';
import { defined } from '../../domain/defined.ts';
import { KilnError } from '../../domain/failures.ts';
import { freePort } from './free-port.ts';
import { listensOn } from './listening-process.ts';
import type { ProcessSpec } from './process-supervisor.ts';
import type { StackIdentity } from './stack-identity.ts';

/** Preferred ports; a busy one is replaced by another. */
export const DEFAULT_PORTS = { api: 4800, temporal: 7233, temporalUi: 8233, s3: 7070 };

export interface StackAddresses {
  readonly temporal: { readonly address: string; readonly uiUrl: string; readonly namespace: string };
  readonly s3: { readonly endpoint: string; readonly bucket: string };
  /** Ports of the servers that the stack starts itself; absent where an external server is used. */
  readonly own: { readonly temporalPort?: number; readonly temporalUiPort?: number; readonly s3Port?: number };
}

/** External servers: the stack does not start its own for these. */
export interface GivenServers {
  readonly temporalAddress?: string;
  readonly temporalUiUrl?: string;
  readonly namespace: string;
  readonly s3Endpoint?: string;
  readonly bucket: string;
}

/** Chooses the ports of the servers that a stack starts first. */
export async function chooseAddresses(given: GivenServers): Promise<StackAddresses> {
  const temporalPort = given.temporalAddress === undefined ? await freePort(DEFAULT_PORTS.temporal) : undefined;
  const uiPort = given.temporalAddress === undefined ? await freePort(DEFAULT_PORTS.temporalUi) : undefined;
  const s3Port = given.s3Endpoint === undefined ? await freePort(DEFAULT_PORTS.s3) : undefined;
  return {
    temporal: {
      address: given.temporalAddress ?? `127.0.0.1:${temporalPort}`,
      uiUrl: given.temporalUiUrl ?? `http://127.0.0.1:${uiPort ?? DEFAULT_PORTS.temporalUi}`,
      namespace: given.namespace,
    },
    s3: { endpoint: given.s3Endpoint ?? `http://127.0.0.1:${s3Port}`, bucket: given.bucket },
    own: {
      ...defined({ temporalPort, temporalUiPort: uiPort, s3Port }),
    },
  };
}

interface StackPlan {
  readonly paths: StackPaths;
  readonly setup: SetupRecord;
  readonly identity: StackIdentity;
  readonly addresses: StackAddresses;
  readonly projectRoot: string;
  readonly baseEnv: Readonly<Record<string, string | undefined>>;
}

/** The Temporal dev server, unless one was given. @throws CONFIG_INVALID where set-up made none */
export async function temporalServer(plan: StackPlan): Promise<ProcessSpec | undefined> {
  const { temporalPort, temporalUiPort } = plan.addresses.own;
  if (temporalPort === undefined || temporalUiPort === undefined) return undefined;
  await mkdir(plan.paths.temporalDir, { recursive: true });
  const { devServerArguments } = await import('../../temporal/dev-server.ts');
  return {
    name: 'temporal',
    command: required(plan.setup.temporalPath, 'Temporal CLI'),
    args: devServerArguments({
      port: temporalPort,
      uiPort: temporalUiPort,
      namespace: plan.addresses.temporal.namespace,
      databasePath: join(plan.paths.temporalDir, 'temporal.db'),
    }),
    env: plan.baseEnv,
    isReady: (pid) => listensOn(pid, temporalPort),
  };
}

/** The S3 server on a local folder, unless one was given. @throws CONFIG_INVALID where set-up made none */
export async function s3Server(plan: StackPlan): Promise<ProcessSpec | undefined> {
  const { s3Port } = plan.addresses.own;
  if (s3Port === undefined) return undefined;
  await mkdir(plan.paths.s3Dir, { recursive: true });
  return {
    name: 's3',
    command: required(plan.setup.versitygwPath, 'S3 server'),
    args: [
      // Without it the server closes each connection after one request.
      ...['--port', `127.0.0.1:${s3Port}`, '--keep-alive'],
      // Sets its modes regardless of the umask.
      ...['posix', '--dir-perms=0700', '--file-perms=0600', plan.paths.s3Dir],
    ],
    env: {
      ...plan.baseEnv,
      ROOT_ACCESS_KEY: plan.identity.s3AccessKey,
      ROOT_SECRET_KEY: plan.identity.s3SecretKey,
    },
    isReady: (pid) => listensOn(pid, s3Port),
  };
}

/** Control worker, host worker and gateway: this program itself, configured only by its environment. */
export function kilnProcesses(plan: StackPlan, apiPort: number): ProcessSpec[] {
  const env = { ...kilnEnvironment(plan), KILN_API_PORT: String(apiPort) };
  const make = (name: string, args: readonly string[], isReady: ProcessSpec['isReady']): ProcessSpec => ({
    name,
    command: plan.setup.nodePath,
    args: [...serviceNodeFlags(args, plan.baseEnv['NODE_OPTIONS']), CLI_ENTRY, ...args],
    env,
    isReady,
  });
  const always = async () => true;
  return [
    // The gateway tells whether the workers work: `/readyz` checks for their pollers and their host entry.
    make('control', ['worker', 'control'], always),
    make('host', ['worker', 'host'], always),
    make(
      'gateway',
      ['gateway', 'run'],
      async (pid) => (await listensOn(pid, apiPort)) && answers(`http://127.0.0.1:${apiPort}/readyz`),
    ),
  ];
}

/** @returns the environment that every Kiln process of the stack is started with. */
export function kilnEnvironment(plan: StackPlan): Record<string, string | undefined> {
  const { addresses, identity, paths } = plan;
  return {
    // With cached compiled code a process starts in half the time, so a worker that ended by itself is back sooner.
    NODE_COMPILE_CACHE: join(paths.cacheDir, 'compiled'),
    // A laptop does not need what a production host must have; an explicit setting overrides this.
    KILN_CGROUPS: plan.baseEnv.KILN_DRIVER === 'fake' ? 'off' : 'auto',
    ...plan.baseEnv,
    KILN_HOME: paths.home,
    KILN_CACHE: paths.cacheDir,
    KILN_RUNTIME_DIR: paths.runtimeDir,
    KILN_PROJECT_ROOT: plan.projectRoot,
    KILN_HOST_ID: identity.hostId,
    KILN_HOST_TOKEN: identity.hostToken,
    KILN_API_TOKEN: identity.apiToken,
    TEMPORAL_ADDRESS: addresses.temporal.address,
    TEMPORAL_NAMESPACE: addresses.temporal.namespace,
    KILN_TEMPORAL_UI_URL: addresses.temporal.uiUrl,
    KILN_S3_ENDPOINT: addresses.s3.endpoint,
    KILN_S3_BUCKET: addresses.s3.bucket,
    KILN_S3_ACCESS_KEY: plan.baseEnv.KILN_S3_ACCESS_KEY ?? identity.s3AccessKey,
    KILN_S3_SECRET_KEY: plan.baseEnv.KILN_S3_SECRET_KEY ?? identity.s3SecretKey,
  };
}

export type { StackPlan };

function required(path: string | undefined, what: string): string {
  if (path !== undefined) return path;
  throw new KilnError('CONFIG_INVALID', `Set-up made no ${what} on this machine. Run \`npm run setup\`.`);
}

async function answers(url: string): Promise<boolean> {
  try {
    return (await fetch(url)).ok;
  } catch {
    return false;
  }
}
