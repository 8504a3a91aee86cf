import { createHash } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { parsePrivateNames } from '../domain/egress/private-names.ts';
import { KilnError } from '../domain/failures.ts';
import { DEFAULT_HOST_PORTS } from '../domain/host-ports.ts';
import { HOST_ID_PATTERN } from '../domain/names.ts';

/** `FROM-TO`, both included. */
const portRange = z
  .string()
  .regex(/^\d{1,5}-\d{1,5}$/, 'must be two ports with a hyphen between, e.g. 20000-29999')
  .transform((text) => {
    const [from = 0, to = 0] = text.split('-').map(Number);
    return { from, to };
  })
  .refine(({ from, to }) => from >= 1 && from <= to && to <= 65_535, 'must go upwards, within 1 to 65535');

/** `name:port` entries, separated by commas. */
const privateNames = z.string().transform((text, context) => {
  const { entries, problems } = parsePrivateNames(text);
  for (const message of problems) context.addIssue({ code: 'custom', message });
  return entries;
});

/** The settings that every process of a stack reads from its environment. */
const schema = z.object({
  KILN_HOME: z.string().min(1).default('.kiln'),
  KILN_CACHE: z.string().exactOptional(),
  XDG_CACHE_HOME: z.string().exactOptional(),
  HOME: z.string().default('/root'),
  TEMPORAL_ADDRESS: z.string().exactOptional(),
  TEMPORAL_NAMESPACE: z.string().min(1).default('default'),
  KILN_TEMPORAL_UI_URL: z.string().exactOptional(),
  KILN_S3_ENDPOINT: z.string().exactOptional(),
  KILN_S3_REGION: z.string().default('us-east-1'),
  KILN_S3_BUCKET: z.string().min(3).default('kiln'),
  /** Put before every key in the bucket; a client of this stack needs the same one. */
  KILN_S3_PREFIX: z.string().exactOptional(),
  KILN_S3_ACCESS_KEY: z.string().exactOptional(),
  KILN_S3_SECRET_KEY: z.string().exactOptional(),
  KILN_HOST_ID: z.string().regex(HOST_ID_PATTERN, 'must be 1 to 40 characters of a-z, 0-9 and -').exactOptional(),
  KILN_HOST_TOKEN: z.string().exactOptional(),
  KILN_HOST_VCPUS: z.coerce.number().int().positive().exactOptional(),
  KILN_HOST_MEM_MIB: z.coerce.number().int().positive().exactOptional(),
  /** Space that must stay free where the disks of VMs lie; with less, no new VM starts. */
  KILN_HOST_FREE_DISK_MIB: z.coerce.number().int().min(0).exactOptional(),
  /** Memory of the machine that must stay available, MiB; absent: a twentieth of it, at most 1024. */
  KILN_HOST_MEM_FLOOR_MIB: z.coerce.number().int().min(0).exactOptional(),
  KILN_HOST_PORT: z.coerce.number().int().min(0).max(65_535).default(0),
  /** Ports of this host at which VMs can be reached; hosts and gateways need the same value. */
  KILN_HOST_PORTS: portRange.default(DEFAULT_HOST_PORTS),
  /** Names and ports at which guests may reach private addresses; hosts and gateways need the same value. */
  KILN_EGRESS_PRIVATE: privateNames.default([]),
  KILN_RUNTIME_DIR: z.string().exactOptional(),
  XDG_RUNTIME_DIR: z.string().exactOptional(),
  KILN_PROJECT_ROOT: z.string().exactOptional(),
  KILN_DRIVER: z.enum(['qemu', 'fake']).default('qemu'),
  KILN_ALLOW_FAKE_DRIVER: z.enum(['0', '1']).default('0'),
  /** First of the users that a host worker of root gives to VMMs, one a project; `off`: VMMs run as root. */
  KILN_VMM_UID_BASE: z
    .union([z.literal('off'), z.coerce.number().int().min(1000).max(4_294_900_000)], {
      error: 'must be a uid or "off"',
    })
    .exactOptional(),
  KILN_REQUIRE_KVM: z.enum(['0', '1']).default('0'),
  /** How root disks are made; absent: the best way that has just proved itself in KILN_HOME. */
  KILN_PROVISIONER: z.enum(['qcow2-overlay', 'reflink', 'ro-base+scratch', 'sparse-copy']).exactOptional(),
  /** `off`: every VM boots cold. */
  KILN_TEMPLATES: z.enum(['auto', 'off']).default('auto'),
  /** Whether VMs must have control groups; absent: `auto` under `kiln dev`, `off` for the fake driver, else `required`. */
  KILN_CGROUPS: z.enum(['required', 'auto', 'off']).exactOptional(),
  /** Group to make the VMs' groups below, a directory of cgroup2, or `cgroup1`; absent: the one of the host worker. */
  KILN_CGROUP_PARENT: z
    .string()
    .regex(/^(cgroup1|\/[^\0]*)$/, 'must be an absolute path or "cgroup1"')
    .exactOptional(),
  /** Reads and writes, each, that one VM may make on the host's disk, MiB per second. */
  KILN_VM_IO_MIBPS: z.coerce.number().int().positive().exactOptional(),
  /** Ready VMs of each pool; 0, the default: no pools. Overrides the file. */
  KILN_POOL_SIZE: z.coerce.number().int().min(0).max(1000).exactOptional(),
  /** File with the settings of the pools; if it exists, pools are on. */
  KILN_POOL_FILE: z.string().exactOptional(),
  KILN_API_HOST: z.string().default('127.0.0.1'),
  KILN_API_PORT: z.coerce.number().int().min(0).max(65_535).default(4800),
  KILN_API_TOKEN: z.string().min(16).exactOptional(),
  /** Where a control worker serves its metrics; 0: any free port, written to its log. */
  KILN_CONTROL_METRICS_HOST: z.string().default('127.0.0.1'),
  KILN_CONTROL_METRICS_PORT: z.coerce.number().int().min(0).max(65_535).default(0),
  /** From the start of one run of the maintenance to the next. */
  KILN_MAINTENANCE_EVERY_S: z.coerce.number().int().min(1).max(86_400).default(300),
  /** Ages after which logs of what is over, and uploaded sources, are removed; absent: never. */
  KILN_KEEP_LOGS_DAYS: z.coerce.number().min(0).max(36_500).exactOptional(),
  KILN_KEEP_SOURCES_DAYS: z.coerce.number().min(1).max(36_500).exactOptional(),
  /** Seconds that the event loop of a worker or gateway may be stuck before its process is ended; 0: no limit. */
  KILN_STUCK_AFTER_S: z.coerce.number().min(0).max(3600).default(10),
  KILN_LOG_LEVEL: z.enum(['trace', 'debug', 'info', 'warn', 'error']).default('info'),
  NODE_EXTRA_CA_CERTS: z.string().exactOptional(),
  SSL_CERT_FILE: z.string().exactOptional(),
  HTTPS_PROXY: z.string().exactOptional(),
  https_proxy: z.string().exactOptional(),
  NO_PROXY: z.string().default(''),
});

export type KilnEnvironment = z.infer<typeof schema>;

/**
 * Reads the environment of this process, once. An empty variable counts as absent.
 * @throws CONFIG_INVALID, naming every variable that is wrong.
 */
export function readEnvironment(source: NodeJS.ProcessEnv = process.env): KilnEnvironment {
  const given = Object.fromEntries(Object.entries(source).filter(([, value]) => value !== undefined && value !== ''));
  const parsed = schema.safeParse(given);
  if (parsed.success) return parsed.data;
  const wrong = parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
  throw new KilnError('CONFIG_INVALID', `Environment: ${wrong.join('; ')}`);
}

/** @returns the environment that child processes inherit. */
export function inheritedEnvironment(): Record<string, string | undefined> {
  return { ...process.env };
}

/** Holds the runtime directories of the stacks that root runs. */
export const ROOT_RUNTIME_DIR = '/run/kiln';

/** Every folder of one stack, absolute. */
export interface StackPaths {
  readonly home: string;
  readonly devJson: string;
  readonly temporalDir: string;
  readonly s3Dir: string;
  readonly logsDir: string;
  readonly hostDir: string;
  /** Tools and images, shared by every checkout of this user. */
  readonly cacheDir: string;
  /** Sockets; short, because a unix socket's path may have 107 bytes. */
  readonly runtimeDir: string;
}

/** @returns the folders of the stack that lives in KILN_HOME. Nothing is made. */
export function stackPaths(env: KilnEnvironment, uid: number): StackPaths {
  const home = resolve(env.KILN_HOME);
  return {
    home,
    devJson: join(home, 'dev.json'),
    temporalDir: join(home, 'temporal'),
    s3Dir: join(home, 's3'),
    logsDir: join(home, 'logs'),
    hostDir: join(home, 'host'),
    cacheDir: resolve(env.KILN_CACHE ?? join(env.XDG_CACHE_HOME ?? join(env.HOME, '.cache'), 'kiln')),
    runtimeDir: env.KILN_RUNTIME_DIR ?? defaultRuntimeDir(env, home, uid),
  };
}

function defaultRuntimeDir(env: KilnEnvironment, home: string, uid: number): string {
  const short = createHash('sha256').update(home).digest('hex').slice(0, 8);
  if (uid === 0) return join(ROOT_RUNTIME_DIR, short);
  if (env.XDG_RUNTIME_DIR !== undefined) return join(env.XDG_RUNTIME_DIR, `kiln-${short}`);
  return join(tmpdir(), `kiln-${uid}-${short}`);
}
