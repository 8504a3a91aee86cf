import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { remembered } from '../../concurrency/remembered.ts';
import { KilnError } from '../../domain/failures.ts';

const run = promisify(execFile);

export interface TscRateOptions {
  /** Program of `tsc-probe/`, built by set-up; absent where it was not built. */
  readonly probePath?: string;
  /** How long a measurement may take. */
  readonly deadlineMs: number;
}

/**
 * @returns a provider of the rate of this machine's time stamp counter in kHz. It measures once, because the rate
 * never changes
 * @throws (the provider) HYPERVISOR_UNAVAILABLE where the rate can neither be measured nor read
 */
export function createTscRate(options: TscRateOptions): () => Promise<number> {
  return remembered(() => findRate(options));
}

async function findRate({ probePath, deadlineMs }: TscRateOptions): Promise<number> {
  const measured = probePath === undefined ? undefined : parseKhz(await outputOf(probePath, [], deadlineMs));
  const rate = measured ?? parseKernelLog(await outputOf('dmesg', [], deadlineMs));
  if (rate !== undefined) return rate;
  throw new KilnError(
    'HYPERVISOR_UNAVAILABLE',
    'The rate of the time stamp counter is unknown: the probe is not built and the kernel log cannot be read. Run `npm run setup`',
    { probePath },
  );
}

/** @returns '' where the program cannot be run or fails: the other source decides */
async function outputOf(program: string, args: readonly string[], timeout: number): Promise<string> {
  const options = { timeout, maxBuffer: 8 * 1024 * 1024, killSignal: 'SIGKILL' } as const;
  return run(program, [...args], options).then(
    ({ stdout }) => stdout,
    () => '',
  );
}

/** @returns the number of kHz in the probe's answer; undefined where no machine can have that rate */
export function parseKhz(text: string): number | undefined {
  const match = /^(\d{1,9})\s*$/.exec(text);
  return match?.[1] === undefined ? undefined : plausible(Number(match[1]));
}

/** @returns the rate that the kernel found at its boot; the refined one where the log has it */
export function parseKernelLog(text: string): number | undefined {
  const rates = [
    ...text.matchAll(/tsc: (?:Detected|Refined TSC clocksource calibration:) (\d{1,6}(?:\.\d{1,6})?) MHz/g),
  ];
  const last = rates.at(-1)?.[1];
  return last === undefined ? undefined : plausible(Math.round(Number(last) * 1000));
}

function plausible(khz: number): number | undefined {
  return khz >= 100_000 && khz <= 20_000_000 ? khz : undefined;
}
