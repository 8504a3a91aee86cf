import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';
import { createKeyedLock } from '../../concurrency/keyed-lock.ts';
import { remembered } from '../../concurrency/remembered.ts';
import { defined } from '../../domain/defined.ts';
import { KilnError, messageOf } from '../../domain/failures.ts';
import type { VmSpec } from '../../domain/vm.ts';
import type { DriverCapabilities, VmDriver } from '../../ports/vm-driver.ts';
import { DEFAULT_TIMINGS, type ProcessDriverOptions, readTail, type VmBackend } from '../driver-context.ts';
import { createProcessDriver } from '../process-driver.ts';
import type { ProjectUids } from '../project-uids.ts';
import { namesAgentSocket } from '../vm-marks.ts';
import { type AccelMode, createAccelerator, type TrialBoot, tryBoots } from './accelerator.ts';
import { EVENT_FILES, type QemuMachine } from './command-line.ts';
import { explainExit, lastShutdownReason, readEventTail } from './exit-events.ts';
import { kvmHostObjection } from './kvm-host.ts';
import { trialBoot } from './kvm-trial.ts';
import { qemuLaunch, stateDescriptor } from './launch.ts';
import { type QemuPaths, qemuPaths, qemuSockets } from './qemu-paths.ts';
import { connectQmp } from './qmp-client.ts';
import { qemuTemplates } from './templates/qemu-templates.ts';
import { restoreState } from './templates/template-restore.ts';

const run = promisify(execFile);

export interface QemuDriverOptions extends ProcessDriverOptions {
  /** Default `qemu-system-x86_64`, found on the standard path. */
  readonly qemuBinary?: string;
  /** Default `auto`. */
  readonly accel?: AccelMode;
  /** Translation cache of one VM in MiB; smaller than 128 costs speed. Default 256. */
  readonly tbSizeMib?: number;
  /** Rate of the host's TSC in kHz (`createTscRate`); asked only where guests run under tcg. */
  readonly tscKhz: () => Promise<number>;
  /** Gives every project's VMMs a user of their own; needs root. Absent: they run as this worker. */
  readonly vmUids?: ProjectUids;
  readonly kvmTrial?: {
    /** Default 3000. */
    readonly deadlineMs?: number;
    /** Default 2. */
    readonly tries?: number;
    /** Lets the trial decide although the host reports `kvm_pvm`. */
    readonly ignorePvm?: boolean;
  };
}

const TAIL_BYTES = 2048;

const statusAnswer = z.object({ status: z.string() });

/** VMs as QEMU `microvm` machines, without a network card. */
export function createQemuDriver(options: QemuDriverOptions): VmDriver {
  return createProcessDriver(qemuBackend(options), options);
}

function qemuBackend(options: QemuDriverOptions): VmBackend {
  const binary = options.qemuBinary ?? 'qemu-system-x86_64';
  const version = remembered(() => qemuVersion(binary, options.timings?.versionMs ?? DEFAULT_TIMINGS.versionMs));
  const ignorePvm = options.kvmTrial?.ignorePvm ?? false;
  const { stateDir, log, vmUids } = options;
  const accelerator = createAccelerator({
    mode: options.accel ?? 'auto',
    objection: () => kvmHostObjection(ignorePvm, undefined, vmUids !== undefined),
    stateDir,
    qemuVersion: version,
    log,
  });
  const qmp = createKeyedLock();
  const ask = <T>(paths: QemuPaths, deadlineMs: number, command: string, parse: (answer: unknown) => T): Promise<T> =>
    qmp.run(paths.qmpSocket, async () => {
      const client = await connectQmp(paths.qmpSocket, { deadlineMs });
      try {
        return parse(await client.execute(command, { deadlineMs }));
      } finally {
        client.close();
      }
    });

  const runningIn = (paths: QemuPaths, deadlineMs: number, command: 'stop' | 'cont') =>
    ask(paths, deadlineMs, command, () => undefined);
  const machineFor = async (imageDigest: string, trial: TrialBoot): Promise<QemuMachine> => {
    const accel = await accelerator.choose(imageDigest, trial);
    const tscKhz = accel === 'tcg' ? await options.tscKhz() : 0;
    const { tbSizeMib = 256, egressPorts } = options;
    return { binary, accel, tbSizeMib, tscKhz, ...defined({ egressPorts }) };
  };

  return {
    kind: 'qemu',
    sockets: qemuSockets,
    isProcessOf: namesAgentSocket,
    logFiles: [EVENT_FILES.output],
    probe: () => probe(version, accelerator.expected),
    check,
    ...(vmUids === undefined ? {} : { uidOf: (spec: VmSpec) => vmUids.uidOf(spec.owner.projectId) }),
    async command(record, common, { signal }) {
      const paths = qemuPaths(record, common);
      const { deadlineMs = 3000, tries = 2 } = options.kvmTrial ?? {};
      const kvm = { binary, accel: 'kvm', tbSizeMib: 0, tscKhz: 0 } as const;
      const trial = () => trialBoot(record, paths, { machine: kvm, deadlineMs, signal });
      const machine = await machineFor(record.imageDigest, () => tryBoots(tries, trial, log));
      return qemuLaunch(record, paths, machine);
    },
    templates: qemuTemplates({ options, binary, machineFor }),
    restore(record, common, limits) {
      const paths = qemuPaths(record, common);
      return qmp.run(paths.qmpSocket, () => restoreState(paths.qmpSocket, stateDescriptor(record, paths), limits));
    },
    pause: (record, paths, deadlineMs) => runningIn(qemuPaths(record, paths), deadlineMs, 'stop'),
    resume: (record, paths, deadlineMs) => runningIn(qemuPaths(record, paths), deadlineMs, 'cont'),
    async explain(paths, end) {
      const exit = explainExit(lastShutdownReason(await readEventTail(join(paths.directory, EVENT_FILES.output))), end);
      if (exit.reason === 'guest-shutdown') return exit;
      const said = [
        exit.detail,
        await readTail(paths.consoleLog, TAIL_BYTES),
        await readTail(paths.vmmLog, TAIL_BYTES),
      ];
      const detail = said.filter(Boolean).join('\n');
      return { ...exit, ...(detail && { detail }) };
    },
    quit: (record, paths, deadlineMs) => ask(qemuPaths(record, paths), deadlineMs, 'quit', () => undefined),
    isPaused: (record, paths, deadlineMs) =>
      ask(
        qemuPaths(record, paths),
        deadlineMs,
        'query-status',
        (answer) => !isRunning(statusAnswer.parse(answer).status),
      ),
  };
}

/** QEMU's names for the states in which the guest's CPUs run, or will run by themselves. */
function isRunning(status: string): boolean {
  return status === 'running' || status === 'prelaunch' || status === 'shutdown';
}

function check(spec: VmSpec): void {
  const bad = [spec.kernelPath, spec.initrdPath, ...spec.drives.map(({ path }) => path)].find(
    (path) => !path.startsWith('/'),
  );
  if (bad !== undefined) throw new KilnError('SPEC_INVALID', `"${bad}" must be an absolute path`, { vmId: spec.vmId });
  const serials = new Set(spec.drives.map(({ serial }) => serial));
  if (serials.size !== spec.drives.length)
    throw new KilnError('SPEC_INVALID', 'Two drives have one serial', { vmId: spec.vmId });
}

async function probe(
  version: () => Promise<string>,
  expected: () => Promise<{ accel: 'kvm' | 'tcg'; usable: boolean; reason?: string }>,
): Promise<DriverCapabilities> {
  const diskFormats = ['raw', 'qcow2'] as const;
  try {
    return { ...(await expected()), version: await version(), diskFormats };
  } catch (error) {
    const reason = messageOf(error);
    return { usable: false, reason, version: 'unknown', accel: 'none', diskFormats };
  }
}

/** @throws HYPERVISOR_UNAVAILABLE where QEMU is not installed, or has no microvm machine */
async function qemuVersion(binary: string, timeout: number): Promise<string> {
  const fix = 'apt-get install qemu-system-x86';
  const options = { timeout, maxBuffer: 1024 * 1024 };
  const { stdout } = await run(binary, ['--version'], options).catch((error: unknown) => {
    throw new KilnError('HYPERVISOR_UNAVAILABLE', `${binary} cannot be run; ${fix}`, { fix }, error);
  });
  const version = /version (\d+\.\d+\.\d+)/.exec(stdout)?.[1];
  if (version === undefined)
    throw new KilnError('HYPERVISOR_UNAVAILABLE', `${binary} does not say its version; ${fix}`, { fix });
  return version;
}
