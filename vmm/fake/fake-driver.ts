import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { KilnError } from '../../domain/failures.ts';
import type { VmExit } from '../../domain/vm.ts';
import { readProcess, sendSignal } from '../../linux/process-identity.ts';
import type { DriverCapabilities, VmDriver } from '../../ports/vm-driver.ts';
import { type ProcessDriverOptions, readTail, type VmBackend } from '../driver-context.ts';
import { createProcessDriver } from '../process-driver.ts';
import { namesAgentSocket, type VmMark } from '../vm-marks.ts';
import type { VmPaths } from '../vm-paths.ts';
import { findVmProcesses, type ProcessEnd } from '../vm-process.ts';

/** Between two checks whether processes have stopped. */
const STOP_POLL_MS = 2;

/** How a fake VM misbehaves, for tests. */
export type FakeFault =
  /** The process lives and its agent never answers. */
  | { readonly kind: 'silent' }
  /** Another program in place of the agent; it gets the agent's arguments after its own. */
  | { readonly kind: 'instead'; readonly argv: readonly string[] }
  /** The process ends by itself, as a guest that crashes during its boot. */
  | { readonly kind: 'dies'; readonly afterMs: number; readonly code: number };

export interface FakeDriverOptions extends ProcessDriverOptions {
  /** Must be true: what a "guest" runs here runs on the host. For tests only. */
  readonly allowFake: boolean;
  /** The guest agent, built for this machine. */
  readonly agentBinary: string;
  /** Whether this worker is root; otherwise a user namespace is used. */
  readonly asRoot: boolean;
  /** Folder put before the guest's default PATH, e.g. the one of a Node that this machine has elsewhere. */
  readonly pathPrefix?: string;
  readonly faultOf?: (vmId: string) => FakeFault | undefined;
}

/**
 * VMs as plain processes: the guest's agent in namespaces of its own on a unix socket. The same rules, records and
 * protocol as with a real VMM, but no real isolation.
 * @throws UNSUPPORTED where it is not allowed
 */
export function createFakeDriver(options: FakeDriverOptions): VmDriver {
  if (options.allowFake !== true) {
    throw new KilnError('UNSUPPORTED', 'The fake driver runs guests on the host itself: it is for tests only', {
      fix: 'use the qemu driver',
    });
  }
  return createProcessDriver(fakeBackend(options), options);
}

/**
 * How fake VMs are run, for drivers of tests that differ in one thing.
 * @param isProcessOf recognizes a VM's processes by their command lines
 */
export function fakeBackend(options: FakeDriverOptions, isProcessOf = namesAgentSocket): VmBackend {
  const processes = (vm: VmMark) => findVmProcesses((argv) => isProcessOf(vm, argv));
  const isStopped = async (vm: VmMark) => {
    const states = await Promise.all((await processes(vm)).map(async ({ pid }) => (await readProcess(pid))?.state));
    return states.every((state) => state === 'T');
  };
  /** Every process of such a VM has its mark in its command line, or descends from one that has and waits for it. */
  const signalAll = async (vm: VmMark, signal: 'SIGSTOP' | 'SIGCONT') => {
    for (const { pid } of await processes(vm)) sendSignal(pid, signal);
  };
  return {
    kind: 'fake',
    isProcessOf,
    logFiles: [],
    probe: () => probe(options.agentBinary),
    check: () => undefined,
    command: async (record, paths) => ({ argv: commandLine(options, paths, options.faultOf?.(record.vmId)) }),
    explain,
    isPaused: async (record) => (await processes(record)).length > 0 && isStopped(record),
    async pause(record, _, deadlineMs) {
      await signalAll(record, 'SIGSTOP');
      await untilStopped(record.vmId, () => isStopped(record), deadlineMs);
    },
    resume: (record) => signalAll(record, 'SIGCONT'),
  };
}

/** Mount and pid namespaces of its own: they end with their first process, and that one with `unshare`. */
function commandLine(options: FakeDriverOptions, paths: VmPaths, fault: FakeFault | undefined): string[] {
  const namespaces = ['--mount', '--net', '--pid', '--fork', '--kill-child'];
  if (!options.asRoot) namespaces.push('--user', '--map-root-user');
  const words = ['--listen', `unix:${paths.agentSocket}`, '--root', join(paths.directory, 'fake')];
  if (options.pathPrefix !== undefined) words.push('--path-prefix', options.pathPrefix);
  const { egressPorts = [] } = options;
  const ports = egressPorts.length === 0 ? [] : ['env', `KILN_EGRESS_PORTS=${egressPorts.join(',')}`];
  return ['unshare', ...namespaces, ...ports, ...program(options.agentBinary, fault), ...words];
}

function program(agentBinary: string, fault: FakeFault | undefined): string[] {
  if (fault === undefined) return [agentBinary];
  if (fault.kind === 'instead') return [...fault.argv];
  if (fault.kind === 'silent') return ['sh', '-c', 'exec sleep infinity'];
  return ['sh', '-c', `sleep ${fault.afterMs / 1000}; echo "dies as told"; exit ${fault.code}`];
}

async function probe(agentBinary: string): Promise<DriverCapabilities> {
  const base = { version: '1', accel: 'none', diskFormats: ['raw', 'qcow2'] } as const;
  const ok = await access(agentBinary, constants.X_OK).then(
    () => true,
    () => false,
  );
  return ok
    ? { ...base, usable: true }
    : { ...base, usable: false, reason: `${agentBinary} is not built; npm run setup` };
}

/** The agent is the first process of its "guest": its end with an error is what a kernel panic is to a VM. */
async function explain(paths: VmPaths, end: ProcessEnd | undefined): Promise<VmExit> {
  if (end === undefined) return { reason: 'unknown', code: null, signal: null };
  if (end.signal !== null) return { reason: 'killed', ...end };
  if (end.code === 0) return { reason: 'guest-shutdown', ...end };
  const detail = await readTail(paths.vmmLog, 2048);
  return { reason: 'guest-panic', ...end, ...(detail && { detail }) };
}

/** A process stops when it is next given a core, and runs until then. @throws TIMED_OUT */
async function untilStopped(vmId: string, isStopped: () => Promise<boolean>, deadlineMs: number): Promise<void> {
  const deadline = performance.now() + deadlineMs;
  while (!(await isStopped())) {
    if (performance.now() >= deadline) {
      throw new KilnError('TIMED_OUT', `The fake VM ${vmId} did not stop within ${deadlineMs} ms`);
    }
    await delay(STOP_POLL_MS);
  }
}
