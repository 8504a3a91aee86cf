/** The thread of `watchLoop`: sleeps, samples, and ends the process if the main thread's event loop is stuck. */
import { readFileSync, writeSync } from 'node:fs';
import { hostname } from 'node:os';
import { workerData } from 'node:worker_threads';
import { parseProcStat } from '../linux/process-identity.ts';
import { parseCpuMs } from '../vmm/limits/process-usage.ts';
import { type LoopLook, LoopWatch } from './loop-watch.ts';
import type { WatchedLoop } from './loop-watchdog.ts';

const { name, stuckMs, lookEveryMs, turns }: WatchedLoop = workerData;
const STDERR = 2;
/** pino's. */
const FATAL = 60;
/** The first thread of a process has the pid as its id. */
const MAIN_THREAD_STAT = `/proc/self/task/${process.pid}/stat`;

const counter = new Int32Array(turns);
const sleeper = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));

function lookNow(): LoopLook {
  const text = readFileSync(MAIN_THREAD_STAT, 'latin1');
  const state = parseProcStat(text)?.state ?? '';
  return { nowMs: performance.now(), turns: Atomics.load(counter, 0), state, cpuMs: parseCpuMs(text) ?? 0 };
}

function endProcess(stillMs: number, state: string): void {
  const msg = `the event loop has not turned for ${(stillMs / 1000).toFixed(1)} s: this process is ended, to be started again`;
  const { pid } = process;
  const line = { level: FATAL, time: Date.now(), pid, hostname: hostname(), name, stillMs, state, msg };
  try {
    writeSync(STDERR, `${JSON.stringify(line)}\n`);
  } finally {
    process.kill(pid, 'SIGKILL');
  }
}

const watch = new LoopWatch(lookEveryMs, lookNow());
for (;;) {
  Atomics.wait(sleeper, 0, 0, lookEveryMs);
  const look = lookNow();
  const stillMs = watch.look(look);
  if (stillMs >= stuckMs) endProcess(stillMs, look.state);
}
