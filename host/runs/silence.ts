/** Notices a run that hangs: it writes nothing, uses no CPU, and moves no bytes over the network. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecHandle } from '../../ports/guest-agent.ts';
import type { RunOutput } from './run-output.ts';

/** Looks of one limit: a run is killed at most so much later than the limit says. */
const LOOKS = 10;
/** Share of one CPU that a process may use only because it wakes up to wait again: 30 ms a minute. */
const IDLE_SHARE = 1 / 2000;

export interface SilenceOptions {
  readonly silentMs: number;
  /** The process as it is known now; undefined while its channel is lost, which is no silence. */
  readonly handle: () => Pick<ExecHandle, 'usage'> | undefined;
  readonly output: Pick<RunOutput, 'end' | 'safeEnd'>;
  /** What its VM has moved over connections to the outside until now. */
  readonly egressBytes: () => number;
  readonly signal: AbortSignal;
}

/** Resolves once there was no sign of life for so long, by looks that were made. Rejects where the signal is aborted. */
export async function untilSilent({ silentMs, handle, output, egressBytes, signal }: SilenceOptions): Promise<void> {
  const idleCpuMs = (silentMs / LOOKS) * IDLE_SHARE;
  let silentLooks = 0;
  let seen = { end: output.end, moved: egressBytes(), cpuMs: 0 };
  while (silentLooks < LOOKS) {
    // Looks are counted instead of time, which goes on while a machine sleeps or a VM is paused.
    await sleep(silentMs / LOOKS, undefined, { signal, ref: false });
    const cpuMs = await cpuOf(handle());
    if (cpuMs === undefined) continue;
    const moved = egressBytes();
    // Output that the disk has not taken yet holds the process back.
    const writes = output.end !== seen.end || output.end !== output.safeEnd;
    const isAlive = writes || moved !== seen.moved || cpuMs - seen.cpuMs > idleCpuMs;
    silentLooks = isAlive ? 0 : silentLooks + 1;
    seen = { end: output.end, moved, cpuMs };
  }
}

/** @returns undefined where it is not known now; never of a run that an earlier host started by an older agent */
async function cpuOf(handle: Pick<ExecHandle, 'usage'> | undefined): Promise<number | undefined> {
  try {
    return (await handle?.usage())?.cpuMs;
  } catch {
    return undefined;
  }
}
