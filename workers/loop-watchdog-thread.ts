/** The thread of `watchLoop`: sleeps, looks, and ends the process where the main thread's event loop stands still. */
import { readFileSync, writeSync } from 'node:fs';
import { hostname } from 'node:os';
import { workerData } from 'node:worker_threads';
import { LoopWatch } from './loop-watch.ts';
import type { WatchedLoop } from './loop-watchdog.ts';

const { name, stuckMs, lookEveryMs, turns }: WatchedLoop = workerData;
const STDERR = 2;
/** pino's. */
const FATAL = 60;
const NS_PER_MS = 1e6;
/** The first thread of a process has the pid as its id. */
const MAIN_THREAD = `/proc/self/task/${process.pid}`;

const counter = new Int32Array(turns);
const sleeper = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));

function lookNow() {
  return { nowMs: performance.now(), turns: Atomics.load(counter, 0), waitedMs: waitedMs() };
}

/** Second field of `schedstat`: time spent ready to run, without a processor, ns. A kernel may keep no such books. */
function waitedMs(): number {
  const waited = Number(textOf(`${MAIN_THREAD}/schedstat`).split(' ')[1]);
  return Number.isFinite(waited) ? waited / NS_PER_MS : 0;
}

/** @returns the state of the main thread as proc(5) has it: R computes, S waits for something, D for a disk */
function mainState(): string {
  const stat = textOf(`${MAIN_THREAD}/stat`);
  return stat.slice(stat.lastIndexOf(')') + 2).charAt(0);
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

function endProcess(stillMs: number): void {
  const msg = `the event loop has not turned for ${(stillMs / 1000).toFixed(1)} s: this process is ended, to be started again`;
  const { pid } = process;
  const line = { level: FATAL, time: Date.now(), pid, hostname: hostname(), name, stillMs, state: mainState(), msg };
  try {
    writeSync(STDERR, `${JSON.stringify(line)}\n`);
  } finally {
    process.kill(pid, 'SIGKILL');
  }
}

const watch = new LoopWatch(lookEveryMs, lookNow());
for (;;) {
  Atomics.wait(sleeper, 0, 0, lookEveryMs);
  const stillMs = watch.look(lookNow());
  if (stillMs >= stuckMs) endProcess(stillMs);
}
