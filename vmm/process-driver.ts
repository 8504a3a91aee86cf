import { stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { createKeyedLock } from '../concurrency/keyed-lock.ts';
import type { InstanceRecord } from '../contracts/host/instance-record.ts';
import { defined } from '../domain/defined.ts';
import { KilnError } from '../domain/failures.ts';
import { sameOwner, type VmSpec, type VmStatus } from '../domain/vm.ts';
import { isAlive } from '../linux/process-identity.ts';
import type { VmDriver, VmInspection, VmUsage } from '../ports/vm-driver.ts';
import { DEFAULT_TIMINGS, type DriverContext, type ProcessDriverOptions, type VmBackend } from './driver-context.ts';
import { createInstanceStore, recordedMachine } from './instance-record.ts';
import { plainLimits } from './limits/plain-limits.ts';
import { adoptUnrecorded, plainExit, settleExit, waitExit } from './vm-exit.ts';
import { vmPaths } from './vm-paths.ts';
import { pauseVm, resumeVm } from './vm-pause.ts';
import { attachVm, pathsOf, startVm } from './vm-start.ts';
import { destroyVm, stopVm } from './vm-stop.ts';

const DEFAULT_MAX_LOG_BYTES = 16 * 1024 * 1024;

/** The rules of a VM's life, the same for every driver that runs one process per VM. */
export function createProcessDriver(backend: VmBackend, options: ProcessDriverOptions): VmDriver {
  const context: DriverContext = {
    backend,
    options,
    timings: { ...DEFAULT_TIMINGS, ...options.timings },
    records: createInstanceStore(options.stateDir),
    limits: options.limits ?? plainLimits,
    operations: createKeyedLock(),
    starts: new Map(),
    unspawned: new Set(),
    ends: new Map(),
  };
  const logs = createLogBounder(context);
  return {
    kind: backend.kind,
    probe: () => backend.probe(),
    prepare: (spec) => prepare(context, spec),
    async start(vmId, request) {
      const started = await startVm(context, vmId, request);
      logs.bound(vmId);
      return started;
    },
    async attach(vmId, request) {
      const started = await attachVm(context, vmId, request);
      logs.bound(vmId);
      return started;
    },
    status: (vmId) => status(context, vmId),
    async pause(vmId) {
      await pauseVm(context, vmId);
      logs.leave(vmId);
    },
    async resume(vmId, request) {
      try {
        return await resumeVm(context, vmId, request);
      } finally {
        // The guest may run although its agent was not reached.
        logs.bound(vmId);
      }
    },
    ...defined({ templates: backend.templates }),
    waitExit: (vmId, options) => waitExit(context, vmId, options),
    stop: (vmId, request) => stopVm(context, vmId, request),
    destroy: (vmId) => destroyVm(context, vmId),
    list: () => context.records.list(),
    usage: (vmId) => usage(context, vmId),
    listGroups: () => context.limits.list(),
    inspect: (vmId) => inspect(context, vmId),
  };
}

async function prepare(context: DriverContext, spec: VmSpec): Promise<void> {
  context.backend.check(spec);
  const paths = vmPaths(context.options, spec.vmId);
  const uid = await context.backend.uidOf?.(spec);
  const wanted: InstanceRecord = {
    version: 1,
    vmId: spec.vmId,
    driver: recordedKind(context.backend.kind),
    owner: { ...spec.owner },
    ...defined({ uid }),
    ...recordedMachine(spec),
    ...(spec.template === undefined ? {} : { template: { ...spec.template } }),
    start: spec.template === undefined ? 'cold' : 'template',
    sockets: { ...context.backend.sockets?.(paths.runtimeDirectory), agent: paths.agentSocket },
    ports: [],
    createdAt: new Date().toISOString(),
  };
  const record = await context.records.create(wanted);
  if (record === wanted) context.unspawned.add(spec.vmId);
  if (sameOwner(record.owner, spec.owner) && record.driver === context.backend.kind) return;
  throw new KilnError(
    'CONFLICT',
    `VM ${spec.vmId} belongs to ${record.owner.workflowId}, epoch ${record.owner.epoch}`,
    {
      vmId: spec.vmId,
      owner: record.owner,
    },
  );
}

function recordedKind(kind: VmDriver['kind']): InstanceRecord['driver'] {
  return kind;
}

async function status(context: DriverContext, vmId: string): Promise<VmStatus> {
  const found = await context.records.read(vmId);
  if (found === undefined) return { state: 'gone' };
  const record = await adoptUnrecorded(context, found);
  if (record.exit !== undefined) return { state: 'exited', exit: plainExit(record.exit) };
  const { process } = record;
  if (process === undefined) return { state: 'prepared' };
  if (!(await isAlive(process))) return { state: 'exited', exit: await settleExit(context, vmId) };
  // A VMM that does not answer is alive, perhaps paused: it counts as "running", which its owner has to check.
  const paused = await context.backend
    .isPaused(record, pathsOf(context, record), context.timings.quitMs)
    .catch(() => false);
  return { state: paused ? 'paused' : 'running', pid: process.pid };
}

async function usage(context: DriverContext, vmId: string): Promise<VmUsage | undefined> {
  const found = await context.records.read(vmId);
  if (found?.process === undefined || found.exit !== undefined) return undefined;
  return context.limits.usage(vmId, context.records.directory(vmId), found.process);
}

async function inspect(context: DriverContext, vmId: string): Promise<VmInspection | undefined> {
  const found = await context.records.read(vmId);
  if (found === undefined) return undefined;
  const { owner, imageDigest, createdAt, process } = await adoptUnrecorded(context, found);
  return { vmId, owner, imageDigest, createdAt, ...(process && { pid: process.pid }) };
}

interface LogBounder {
  /** Looks at the files of this VM again and again, until it has ended. */
  bound(vmId: string): void;
  /** Its guest stands still, and prints nothing. */
  leave(vmId: string): void;
}

/**
 * A guest can print without end, so while this driver runs, files that the guest fills are emptied above a size.
 * Measured in blocks, because a file whose writer does not append stays long (but sparse) after it was emptied.
 */
function createLogBounder(context: DriverContext): LogBounder {
  const watched = new Set<string>();
  const maxBytes = context.options.maxLogBytes ?? DEFAULT_MAX_LOG_BYTES;
  let scheduled = false;

  const check = async (vmId: string): Promise<void> => {
    const paths = vmPaths(context.options, vmId);
    const record = await context.records.read(vmId).catch(() => undefined);
    if (record === undefined || record.exit !== undefined) watched.delete(vmId);
    const extra = context.backend.logFiles.map((name) => join(paths.directory, name));
    for (const path of [paths.consoleLog, paths.vmmLog, ...extra]) {
      const blocks = await stat(path).then(
        (found) => found.blocks,
        () => 0,
      );
      if (blocks * 512 > maxBytes) await truncate(path, 0);
    }
  };
  const round = async (): Promise<void> => {
    for (const vmId of watched) {
      await check(vmId).catch((error: unknown) =>
        context.options.log.warn({ vmId, error: String(error) }, 'the size of the VM logs could not be checked'),
      );
    }
    scheduled = false;
    if (watched.size > 0) schedule();
  };
  const schedule = () => {
    if (scheduled) return;
    scheduled = true;
    setTimeout(() => void round(), context.timings.logCheckMs).unref();
  };
  return {
    bound(vmId) {
      watched.add(vmId);
      schedule();
    },
    leave: (vmId) => void watched.delete(vmId),
  };
}
