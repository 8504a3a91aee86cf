import { readFile } from 'node:fs/promises';
import { release } from 'node:os';
import { join } from 'node:path';
import writeFileAtomic from 'write-file-atomic';
import { z } from 'zod';
import { isKilnError, KilnError } from '../../domain/failures.ts';
import { hostBootId } from '../../linux/process-identity.ts';
import type { DriverLog } from '../driver-context.ts';

/** `auto`: KVM where a guest has really booted under it, else software emulation. `kvm`: only KVM. */
export type AccelMode = 'auto' | 'kvm' | 'tcg';

export interface AcceleratorOptions {
  readonly mode: AccelMode;
  /** Objection to KVM before any guest was tried (`kvmHostObjection`). */
  readonly objection: () => Promise<string | undefined>;
  readonly stateDir: string;
  readonly qemuVersion: () => Promise<string>;
  readonly log: DriverLog;
}

/** Boots the real guest once under KVM, its disks untouched; false where its agent did not say hello in time. */
export type TrialBoot = () => Promise<boolean>;

export interface Accelerator {
  /**
   * What the next guest of this image runs with; boots a trial guest if nothing is known of the image yet.
   * @throws HYPERVISOR_UNAVAILABLE where KVM is demanded and does not work
   */
  choose(imageDigest: string, trial: TrialBoot): Promise<'kvm' | 'tcg'>;
  /** What is known without a trial. */
  expected(): Promise<{ accel: 'kvm' | 'tcg'; usable: boolean; reason?: string }>;
}

const verdictSchema = z.record(z.string().max(512), z.boolean());
const VERDICT_FILE = 'kvm-trials.json';
const TRIAL_FAILED = 'trial guest did not boot';

export function createAccelerator(options: AcceleratorOptions): Accelerator {
  let said = false;
  const objection = () => (options.mode === 'tcg' ? 'not wanted' : options.objection());
  const fallBack = (reason: string): 'tcg' => {
    if (options.mode === 'kvm') {
      throw new KilnError('HYPERVISOR_UNAVAILABLE', `KVM is required, but does not work here: ${reason}`, { reason });
    }
    if (!said) options.log.info({ accel: 'tcg', reason }, `guests run in software emulation: kvm ${reason}`);
    said = true;
    return 'tcg';
  };
  return {
    async choose(imageDigest, trial) {
      const reason = await objection();
      if (reason !== undefined) return fallBack(reason);
      const key = [await hostBootId(), release(), await options.qemuVersion(), imageDigest].join('|');
      const verdicts = await readVerdicts(options.stateDir);
      const usable = verdicts[key] ?? (await trial());
      if (verdicts[key] === undefined) await writeVerdict(options.stateDir, key, usable);
      return usable ? 'kvm' : fallBack(TRIAL_FAILED);
    },
    async expected() {
      const reason = (await objection()) ?? (await failedTrials(options.stateDir));
      if (reason === undefined) return { accel: 'kvm', usable: true, reason: 'kvm: every image is tried once first' };
      return { accel: 'tcg', usable: options.mode !== 'kvm', reason: `kvm: ${reason}` };
    },
  };
}

/** @returns why KVM is out where every trial on this boot of the host has failed */
async function failedTrials(stateDir: string): Promise<string | undefined> {
  const boot = `${await hostBootId()}|`;
  const trials = Object.entries(await readVerdicts(stateDir)).filter(([key]) => key.startsWith(boot));
  return trials.length > 0 && trials.every(([, usable]) => !usable) ? TRIAL_FAILED : undefined;
}

/** Trials of this boot of the host; a file that cannot be read only costs another trial. */
async function readVerdicts(stateDir: string): Promise<Record<string, boolean>> {
  try {
    return verdictSchema.parse(JSON.parse(await readFile(join(stateDir, VERDICT_FILE), 'utf8')));
  } catch {
    return {};
  }
}

async function writeVerdict(stateDir: string, key: string, usable: boolean): Promise<void> {
  const boot = key.split('|')[0] ?? '';
  const kept = Object.entries(await readVerdicts(stateDir)).filter(([known]) => known.startsWith(`${boot}|`));
  const text = `${JSON.stringify(Object.fromEntries([...kept, [key, usable]]), null, 2)}\n`;
  await writeFileAtomic(join(stateDir, VERDICT_FILE), text);
}

/** @returns whether `boot` succeeds in one of `tries` tries; failures of the machine mean "no", others are thrown */
export async function tryBoots(tries: number, boot: () => Promise<void>, log: DriverLog): Promise<boolean> {
  for (let left = tries; left > 0; left--) {
    try {
      await boot();
      return true;
    } catch (error) {
      if (!isKilnError(error, 'AGENT_TIMEOUT', 'VMM_EXITED')) throw error;
      log.warn({ code: error.code }, `a trial guest did not boot under KVM: ${error.message}`);
    }
  }
  return false;
}
