/**
 * Every name that Kiln gives to something outside its own memory: workflow ids, task queues, VM ids, store keys,
 * search attributes. Names are minted before the effect, so this file is pure and runs inside workflows too.
 */

import { hash64 } from './hash64.ts';

export const CONTROL_QUEUE = 'kiln-control';

/** The Schedule of the maintenance, and the prefix of its workflow ids. */
export const MAINTENANCE_SCHEDULE = 'kiln-maintenance';
export const MAINTENANCE_PREFIX = 'maintenance/';

/** Search attributes, all of type Keyword. SQLite visibility has room for ten; Kiln uses only these eight. */
export const SEARCH_ATTRIBUTES = [
  'KilnStage',
  'KilnTier',
  'KilnHost',
  'KilnProject',
  'KilnDeployment',
  'KilnThread',
  'KilnOutcome',
  'KilnAttention',
] as const;
export type SearchAttribute = (typeof SEARCH_ATTRIBUTES)[number];

export const WORKLOAD_ID_PATTERN = /^[a-z0-9-]{1,40}$/;
/** Ids of new workloads: each id is also the host name of its guest. Older ids follow the pattern above. */
export const NEW_WORKLOAD_ID_PATTERN = /^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$/;
export const PROJECT_ID_PATTERN = /^[a-z0-9-]{1,40}$/;
/** The project of a thread that names none. */
export const DEFAULT_PROJECT = 'default';
/** A thread of messages. No leading dot, so that no part of a path is `.` or `..`. */
export const THREAD_PATTERN = /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$/;
/** The caller's id of one run of a thread. In the store it is named by its SHA-256. */
export const RUN_ID_PATTERN = /^[A-Za-z0-9._:-]{1,128}$/;
export const HOST_ID_PATTERN = /^[a-z0-9-]{1,40}$/;
export const IMAGE_NAME_PATTERN = /^[a-z0-9][a-z0-9-]{0,39}$/;
export const IMAGE_TAG_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
export const DIGEST_PATTERN = /^sha256:[0-9a-f]{64}$/;

/** Exec id of the service process in its guest: one per VM, so a restarted host finds it again. */
export const SERVICE_EXEC_ID = 'service';

/** @returns the workflow id of a workload. */
export function workloadWorkflowId(workloadId: string): string {
  return `workload/${workloadId}`;
}

/** @returns the workload id in a workflow id, or undefined where the workflow is not a workload. */
export function workloadIdOf(workflowId: string): string | undefined {
  return workflowId.startsWith('workload/') ? workflowId.slice('workload/'.length) : undefined;
}

/** A thread: the name that callers give, in its project. */
export interface ThreadName {
  readonly project: string;
  readonly thread: string;
}

/** One life of a thread, counted from 1: after its end, the next message begins another one. */
export interface SessionName extends ThreadName {
  readonly incarnation: number;
}

/** @returns the id of a session as an owner: `<project>/<thread>/<n>` */
export function sessionId({ project, thread, incarnation }: SessionName): string {
  return `${project}/${thread}/${incarnation}`;
}

/** @returns the workflow id of a session. */
export function sessionWorkflowId(name: SessionName): string {
  return `session/${sessionId(name)}`;
}

/** @returns the session that a workflow id names; undefined where it names none */
export function sessionNameOf(workflowId: string): SessionName | undefined {
  const [kind, project = '', thread = '', n = '', ...rest] = workflowId.split('/');
  if (kind !== 'session' || rest.length > 0 || !/^[1-9]\d{0,8}$/.test(n)) return undefined;
  if (!PROJECT_ID_PATTERN.test(project) || !THREAD_PATTERN.test(thread)) return undefined;
  return { project, thread, incarnation: Number(n) };
}

/** Prefix of the ids of ready VMs without an owner. */
export const POOL_VM_PREFIX = 'pool-';

/** @returns the id of the workflow that keeps the pool of a host in order. */
export function poolWorkflowId(hostId: string): string {
  return `pool/${hostId}`;
}

/** @returns the task queue that only the given host polls. */
export function hostQueue(hostId: string): string {
  return `kiln-host-${hostId}`;
}

/**
 * Id of one VM: 14 characters that identify its owner, the epoch (placement) and the boot within it.
 * At most 24 characters, because it is part of unix socket paths (107 bytes in all).
 */
export function vmId(ownerWorkflowId: string, epoch: number, boot: number): string {
  return `${shortHash(ownerWorkflowId)}-${epoch}-${boot}`;
}

/** Id of the capacity that one placement of a workload reserves, for all of its boots. */
export function reservationId(ownerWorkflowId: string, epoch: number): string {
  return `${shortHash(ownerWorkflowId)}-${epoch}`;
}

/** 64 bits as 14 characters of base 36: not secret, only short and stable. */
export function shortHash(text: string): string {
  return hash64(text)
    .map((half) => half.toString(36).padStart(7, '0'))
    .join('');
}

/** Keys of the object store. */
export const storeKeys = {
  workloadSpec: (id: string) => `workloads/${id}/spec.json`,
  workloadStarted: (id: string) => `workloads/${id}/started.json`,
  workloadSpecs: 'workloads/',
  deployment: (id: string) => `deployments/${id}.json`,
  deployments: 'deployments/',
  host: (hostId: string) => `hosts/${hostId}.json`,
  hosts: 'hosts/',
  waitingLine: 'waiting/',
  pool: (hostId: string) => `pools/${hostId}.json`,
  pools: 'pools/',
  hostDrain: (hostId: string) => `drains/${hostId}.json`,
  imageTag: (name: string, tag: string) => `images/${name}/tags/${tag}.json`,
  imageTags: (name: string) => `images/${name}/tags/`,
  images: 'images/',
  imageManifest: (digest: string) => `image-blobs/${digest.replace(':', '-')}/manifest.json`,
  imageFile: (digest: string, file: string) => `image-blobs/${digest.replace(':', '-')}/${file}`,
  build: (cacheKey: string) => `builds/${cacheKey}.json`,
  sourceTar: (sha256: string) => `sources/${sha256}/source.tar`,
  sources: 'sources/',
  retiredSource: (sha256: string) => `sources/${sha256}/retired.json`,
  sourceDocument: (sha256: string) => `sources/${sha256}/source.json`,
  blob: (sha256: string) => `blobs/${sha256}`,
  logChunk: (workloadId: string, epoch: number, writer: string, first: number) =>
    `${storeKeys.logChunks(workloadId, epoch, writer)}${String(first).padStart(10, '0')}.jsonl`,
  /** Chunks of one writer: their names sort in the order of their lines. */
  logChunks: (workloadId: string, epoch: number, writer: string) => `logs/${workloadId}/${epoch}-${writer}/`,
  logs: (workloadId: string) => `logs/${workloadId}/`,
  allLogs: 'logs/',
  sessions: 'sessions/',
  /** Everything of a thread, of all its incarnations. */
  thread: ({ project, thread }: ThreadName) => `sessions/${project}/${thread}/`,
  /** What is of one incarnation alone. */
  incarnation: (name: SessionName) => `sessions/${sessionId(name)}/`,
  session: (name: ThreadName) => `${storeKeys.thread(name)}session.json`,
  /** `idSha256`: of the caller's id of the run. */
  run: (name: ThreadName, idSha256: string) => `${storeKeys.runs(name)}${idSha256}.json`,
  runs: (name: ThreadName) => `${storeKeys.thread(name)}runs/`,
  /** Chunks of the output of a run in one VM, since a repeated run writes anew in another one: their names sort in the order of their positions. */
  runOutput: (name: SessionName, idSha256: string, vmId: string) =>
    `sessions/${sessionId(name)}/output/${idSha256}/${vmId}/`,
  runOutputChunk: (name: SessionName, idSha256: string, vmId: string, offset: number) =>
    `${storeKeys.runOutput(name, idSha256, vmId)}${String(offset).padStart(15, '0')}`,
  /** A sealed request that is too large to travel through Temporal. */
  runRequest: (name: SessionName, sha256: string) => `sessions/${sessionId(name)}/requests/${sha256}`,
  /** Sessions that are over, by the day from which on their saves may be deleted. */
  ended: 'ended/',
  /** `at`: ISO 8601. */
  endedOn: (at: string) => `ended/${at.slice(0, 10)}/`,
  endedMarker: (name: SessionName, at: string) => `${storeKeys.endedOn(at)}${sessionId(name)}`,
  sessionKey: (name: SessionName) => `sessions/${sessionId(name)}/key.json`,
  /** Which save of the workspace is the newest. */
  saveHead: (name: SessionName) => `sessions/${sessionId(name)}/head.json`,
  saveTree: (name: SessionName, saveId: string) => `${storeKeys.saveTrees(name)}${saveId}.json`,
  saveTrees: (name: SessionName) => `sessions/${sessionId(name)}/trees/`,
  savePack: (name: SessionName, pack: string) => `${storeKeys.savePacks(name)}${pack}`,
  savePacks: (name: SessionName) => `sessions/${sessionId(name)}/packs/`,
  /** `id`: `<project>/<thread>/<n>`. */
  sessionLogChunk: (id: string, epoch: number, writer: string, first: number) =>
    `sessions/${id}/logs/${epoch}-${writer}/${String(first).padStart(10, '0')}.jsonl`,
  archive: (workflowId: string) => `archive/${workflowId}/`,
  workloadResult: (workloadId: string) => `archive/workload/${workloadId}/result.json`,
  archivedHistory: (workflowId: string) => `archive/${workflowId}/history.json`,
  archivedExecution: (workflowId: string, executionId: string) =>
    `archive/${workflowId}/executions/${executionId}.json`,
  archivedEvents: (workflowId: string, executionId: string, sha256: string) =>
    `archive/${workflowId}/executions/${executionId}-${sha256.slice(0, 16)}.json.gz`,
  freedNotice: (workloadId: string, hostId: string) => `archive/workload/${workloadId}/released/${hostId}.json`,
  freedNotices: (workloadId: string) => `archive/workload/${workloadId}/released/`,
  recorderPosition: 'maintenance/recorder.json',
  /** How far the repair of saves is. */
  saveRepair: 'maintenance/save-repair.json',
} as const;
