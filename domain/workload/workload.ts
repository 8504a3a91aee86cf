import type { Priority } from '../capacity/priority.ts';
import { RESOLVER_PORT, USUAL_EGRESS_PORTS } from '../egress/rules.ts';
import type { FailureCode } from '../failures.ts';
import type { Move } from '../lifecycle/lifecycle.ts';
import type { Stage } from './stages.ts';

/** What a VM may use. */
export interface Resources {
  readonly vcpus: number;
  readonly memMib: number;
  /** Size of /workspace, MiB; absent: that of the image. */
  readonly diskMib?: number;
}

export const DEFAULT_SERVICE_RESOURCES: Resources = { vcpus: 1, memMib: 512 };
/** Size of /workspace in Kiln's images. */
const BUILDER_DISK_MIB = 4096;
export const DEFAULT_BUILDER_RESOURCES: Resources = { vcpus: 2, memMib: 1024 };

/** A service that asks for a larger disk is built on a disk of that size: its output must fit on both. */
export function builderResources(service: Resources): Resources {
  const { diskMib = 0 } = service;
  return diskMib > BUILDER_DISK_MIB ? { ...DEFAULT_BUILDER_RESOURCES, diskMib } : DEFAULT_BUILDER_RESOURCES;
}

export const DEFAULT_GUEST_PORT = 8080;
/** Guest ports that the resolver and the egress listeners of every guest use. */
export const RESERVED_GUEST_PORTS: readonly number[] = [RESOLVER_PORT, ...USUAL_EGRESS_PORTS];
export const DEFAULT_IMAGE = 'node';

/** Language of a service; `none`: its hooks decide what runs. */
export const LANGUAGES = ['node', 'python', 'none'] as const;
export type Language = (typeof LANGUAGES)[number];

/** Folder in a Python service into which its packages are installed. */
export const PYTHON_ENVIRONMENT = '.venv';

/** Image of a service whose request names no image. */
const LANGUAGE_IMAGES: Readonly<Record<Language, string>> = { node: DEFAULT_IMAGE, python: 'python', none: 'base' };

/** What a workload needs before it can be built and run. */
export interface ServiceNeeds {
  /** Image reference. */
  readonly image: string;
  readonly resources: Resources;
}

/** The request comes before the manifest, the manifest before the defaults. */
export function needsOf(
  request: Pick<WorkloadRequest, 'image' | 'resources'>,
  manifest: Pick<ServiceManifest, 'language' | 'resources'> = { language: 'node', resources: {} },
): ServiceNeeds {
  return {
    image: request.image ?? LANGUAGE_IMAGES[manifest.language],
    resources: { ...DEFAULT_SERVICE_RESOURCES, ...manifest.resources, ...request.resources },
  };
}

export function sameNeeds(a: ServiceNeeds, b: ServiceNeeds): boolean {
  return a.image === b.image && sameResources(a.resources, b.resources) && a.resources.diskMib === b.resources.diskMib;
}

/** Whether both need the same share of a host: disks are not reserved, because only written data takes space. */
export function sameResources(a: Resources, b: Resources): boolean {
  return a.vcpus === b.vcpus && a.memMib === b.memMib;
}

/** How readiness and liveness of a service are checked. Without `path`, a TCP connection that stays open counts. */
export interface HealthCheck {
  readonly path?: string;
  readonly intervalMs: number;
  readonly timeoutMs: number;
  /** Failures in a row that end the workload. */
  readonly failures: number;
  /** How long a service may take until its first healthy answer. */
  readonly startPeriodMs: number;
}

export const DEFAULT_HEALTH: HealthCheck = { intervalMs: 10_000, timeoutMs: 2_000, failures: 3, startPeriodMs: 60_000 };

/** Uploaded sources, named by the sha256 (hex) of their tar. */
export interface SourceRef {
  readonly sha256: string;
}

/** What a caller requests. Stored as the spec document; environment variables are only there, never in history. */
export interface WorkloadRequest {
  readonly deploymentId?: string;
  readonly projectId?: string;
  /** Folder of the service, relative to the project root of the host, or to the root of `source`. */
  readonly servicePath: string;
  /** Uploaded sources that hold the service; absent: it lies on the host. */
  readonly source?: SourceRef;
  readonly env?: Readonly<Record<string, string>>;
  /** Guest port the service listens on. */
  readonly port?: number;
  /** Requested host port; absent: any free one. */
  readonly hostPort?: number;
  /** `name`, `name:tag` or `name@sha256:…`. */
  readonly image?: string;
  readonly resources?: Partial<Resources>;
  /** Who is served first where capacity is short: 1 before 5; default 3. */
  readonly priority?: Priority;
  /** Overrides the manifest's health settings. */
  readonly health?: Partial<HealthCheck>;
}

/** `kiln.json` (or what the language's files imply) after parsing, defaults filled in. */
export interface ServiceManifest {
  readonly language: Language;
  readonly hooks: {
    /** Shell commands; absent = nothing to do. */
    readonly preBuild?: string;
    readonly build?: string;
    readonly start: string;
  };
  /** Paths in the service folder that the running service needs; empty = the whole folder. */
  readonly outputs: readonly string[];
  /** Names of environment variables that the service must have to build or run. */
  readonly envRequired: readonly string[];
  readonly health: HealthCheck;
  readonly resources: Partial<Resources>;
  /** `name:port` or `*.domain:port` that the running service may reach; empty = nothing. */
  readonly egress: readonly string[];
  /** Whether the folder declares dependencies that have to be installed. */
  readonly installs: boolean;
  /** Requirements of a pyproject.toml, for pip; absent where a requirements.txt names them. */
  readonly requirements?: readonly string[];
  /** Path of the lock file; absent = no build cache. */
  readonly lockFile?: string;
}

/** One move between stages. */
export type StageMove = Move<Stage>;

/** How a service's process ended. */
export interface ServiceExit {
  readonly code: number | null;
  readonly signal: string | null;
  readonly reason: 'stopped' | 'exited' | 'killed' | 'vm-lost' | 'unknown';
}

export interface WorkloadFailure {
  readonly code: FailureCode;
  readonly message: string;
  readonly stage: Stage;
  readonly stack?: string;
}

/** A resource that could not be released in time; the host's sweep has to free it. */
export interface Unreleased {
  readonly name: string;
  readonly hostId: string;
  readonly message: string;
}

/** Where a workload's VM is and how to reach it. */
export interface PlacedVm {
  readonly hostId: string;
  readonly epoch: number;
  readonly boot: number;
  readonly vmId: string;
  readonly pid?: number;
  /** Host port of the service. */
  readonly port?: number;
  readonly url?: string;
}

/** The whole state of a workload, as its workflow knows it: query answer, failure details, archive. */
export interface WorkloadState {
  readonly workloadId: string;
  readonly deploymentId?: string;
  readonly projectId?: string;
  readonly servicePath: string;
  readonly stage: Stage;
  readonly leaving?: { readonly cause: string; readonly since: string };
  /** Why a pending workload waits, and how many are served before it. */
  readonly waiting?: { readonly reason: string; readonly since: string; readonly ahead?: number };
  /** Absent where the request named none. */
  readonly priority?: Priority;
  /** Name and digest of the image, once resolved. */
  readonly image?: { readonly name: string; readonly digest: string };
  readonly vm?: PlacedVm;
  readonly exit?: ServiceExit;
  readonly failure?: WorkloadFailure;
  /** What went wrong after the outcome was fixed. */
  readonly notes: readonly string[];
  readonly unreleased: readonly Unreleased[];
  readonly moves: readonly StageMove[];
  /** Time from the request to the guest agent's first answer, measured by the host; absent until then. */
  readonly vmReadyMs?: number;
  readonly createdAt: string;
  readonly updatedAt: string;
}
