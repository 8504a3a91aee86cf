/**
 * Ends this process where its event loop stands still: what is blocked can neither answer nor end itself, and nobody
 * starts another as long as it lives.
 */
import { url as debuggerUrl } from 'node:inspector';
import { Worker } from 'node:worker_threads';

export interface LoopWatchdogOptions {
  /** Name of the process, for its last line of log. */
  readonly name: string;
  /** How long the event loop may stand still, ms; 0: for ever. */
  readonly stuckMs: number;
}

/** What the thread is started with. */
export interface WatchedLoop {
  readonly name: string;
  readonly stuckMs: number;
  readonly lookEveryMs: number;
  /** One integer, which grows with every turn of the loop. */
  readonly turns: SharedArrayBuffer;
}

/** Looks within the time that is allowed; the loop shows itself twice as often. */
const LOOKS = 20;
const THREAD_MIB = 16;

/**
 * Watches the event loop of the main thread from a thread of its own. Where it has not turned for `stuckMs`, the thread
 * writes one line of log to standard error and ends the process with SIGKILL; whoever supervises it starts another.
 * Neither the watch nor its thread keeps a process alive. A process that is debugged is not watched.
 */
export function watchLoop({ name, stuckMs }: LoopWatchdogOptions): void {
  if (stuckMs === 0 || debuggerUrl() !== undefined) return;
  const lookEveryMs = stuckMs / LOOKS;
  const turns = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
  const counter = new Int32Array(turns);
  setInterval(() => Atomics.add(counter, 0, 1), lookEveryMs / 2).unref();
  const workerData: WatchedLoop = { name, stuckMs, lookEveryMs, turns };
  const thread = new Worker(new URL('loop-watchdog-thread.ts', import.meta.url), {
    name: 'loop-watchdog',
    workerData,
    resourceLimits: { maxOldGenerationSizeMb: THREAD_MIB, maxYoungGenerationSizeMb: 2 },
  });
  thread.unref();
}
