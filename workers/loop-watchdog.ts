/**
 * Ends this process if its event loop is stuck: a blocked process can neither answer nor end itself, and no supervisor
 * starts another as long as it lives.
 */
import { url as debuggerUrl } from 'node:inspector';
import { Worker } from 'node:worker_threads';

export interface LoopWatchdogOptions {
  /** Name of the process, for its last line of log. */
  readonly name: string;
  /** How long the event loop may be stuck, ms; 0: no limit. */
  readonly stuckMs: number;
}

/** Data that the thread starts with. */
export interface WatchedLoop {
  readonly name: string;
  readonly stuckMs: number;
  readonly lookEveryMs: number;
  /** One integer, which grows with every turn of the loop. */
  readonly turns: SharedArrayBuffer;
}

/** How many samples the thread takes within the allowed time; the loop counts up twice as often. */
const LOOKS = 20;
const THREAD_MIB = 16;

/**
 * Watches the event loop of the main thread from a thread of its own. Where it has not turned for `stuckMs`, the thread
 * writes one log line to standard error and ends the process with SIGKILL; its supervisor starts another.
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
