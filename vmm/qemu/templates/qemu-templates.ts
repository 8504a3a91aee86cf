import { execFile } from 'node:child_process';
import { rm, stat } from 'node:fs/promises';
import { cpus } from 'node:os';
import { promisify } from 'node:util';
import { defined } from '../../../domain/defined.ts';
import { KilnError } from '../../../domain/failures.ts';
import type { TemplateMaker } from '../../../ports/vm-driver.ts';
import { DEFAULT_TIMINGS, type ProcessDriverOptions } from '../../driver-context.ts';
import { plainLimits } from '../../limits/plain-limits.ts';
import type { ProjectUids } from '../../project-uids.ts';
import { markOf, namesAgentSocket } from '../../vm-marks.ts';
import { killVmProcesses } from '../../vm-process.ts';
import type { TrialBoot } from '../accelerator.ts';
import type { QemuMachine } from '../command-line.ts';
import { templateFingerprint } from './template-fingerprint.ts';
import { freezeGuest, freezeSockets } from './template-freeze.ts';
import { throwawayPaths } from './throwaway-guest.ts';

const run = promisify(execFile);

type QemuTemplateOptions = ProcessDriverOptions & { readonly vmUids?: ProjectUids };

export interface QemuTemplateParts {
  readonly options: QemuTemplateOptions;
  readonly binary: string;
  /** What guests of an image run with; runs the trial if that is not known yet. */
  readonly machineFor: (imageDigest: string, trial: TrialBoot) => Promise<QemuMachine>;
}

/** Templates of guests under QEMU. */
export function qemuTemplates({ options, binary, machineFor }: QemuTemplateParts): TemplateMaker {
  const { runtimeDir, vmUids } = options;
  const limits = options.limits ?? plainLimits;
  const timings = { ...DEFAULT_TIMINGS, ...options.timings };
  const release = { pollMs: timings.pollMs, timeoutMs: timings.killMs };
  const machineOf = (imageDigest: string) => machineFor(imageDigest, untried);
  return {
    async fingerprint(spec) {
      const machine = await machineOf(spec.imageDigest);
      const version = await programIdentity(binary, timings.versionMs);
      return templateFingerprint(spec, machine, version, machine.accel === 'kvm' ? (cpus()[0]?.model ?? '') : '');
    },
    async freeze(request) {
      const uid = await vmUids?.uidOf(request.projectId);
      const machine = await machineOf(request.spec.imageDigest);
      await freezeGuest(request, { machine, runtimeDir, limits, release, ...defined({ uid }) });
    },
    async clearFreeze({ name, directory }) {
      // A worker that is killed between two steps of a start leaves a guest that was not bound to it yet.
      const frozen = markOf(throwawayPaths(directory, freezeSockets(runtimeDir, name)));
      await killVmProcesses((argv) => namesAgentSocket(frozen, argv), undefined, release);
      await limits.release(name, directory, release);
      await rm(freezeSockets(runtimeDir, name), { recursive: true, force: true });
    },
  };
}

/** A template is made from an image of which a guest has run here, so what it runs with is known. */
const untried: TrialBoot = () => {
  throw new KilnError('HYPERVISOR_UNAVAILABLE', 'No guest of this image has been started on this host yet', {
    fix: 'start one cold first',
  });
};

/** A security update changes a program without changing its version. */
async function programIdentity(binary: string, timeout: number): Promise<string> {
  const { stdout } = await run(binary, ['--version'], { timeout, maxBuffer: 1024 * 1024 });
  const path = (await run('sh', ['-c', 'command -v "$1"', 'sh', binary], { timeout })).stdout.trim();
  const { size, mtimeMs } = await stat(path);
  return `${stdout.split('\n')[0] ?? ''} ${size} ${mtimeMs}`;
}
