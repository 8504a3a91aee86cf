/** Decides from periodic samples whether an event loop is stuck. Pure: the caller supplies clock and counters. */

export interface LoopLook {
  /** Monotonic; stands still while the machine sleeps. */
  readonly nowMs: number;
  /** Grows with every turn of the loop. */
  readonly turns: number;
  /** Of the watched thread, as proc(5) has it: R computes or waits for a processor, S and D wait for something else. */
  readonly state: string;
  /** CPU time of the watched thread. */
  readonly cpuMs: number;
}

/** A sample this many times later than planned shows that the watcher did not run either. */
const LATE = 2;

export class LoopWatch {
  private readonly lookEveryMs: number;
  private last: LoopLook;
  private stillMs = 0;

  /** @param lookEveryMs from one sample to the next */
  constructor(lookEveryMs: number, first: LoopLook) {
    this.lookEveryMs = lookEveryMs;
    this.last = first;
  }

  /**
   * @returns how long the loop has not turned though it could have, ms: what it has computed meanwhile, and how long it
   * has waited for something. Waiting for a processor does not count, nor does time in which the watcher did not run
   * either: the machine slept, or the process was stopped.
   */
  look(look: LoopLook): number {
    const { last } = this;
    this.last = look;
    this.stillMs = look.turns === last.turns ? this.stillMs + this.stillSince(last, look) : 0;
    return this.stillMs;
  }

  private stillSince(last: LoopLook, { nowMs, state, cpuMs }: LoopLook): number {
    if (state !== 'S' && state !== 'D') return cpuMs - last.cpuMs;
    const gapMs = nowMs - last.nowMs;
    return gapMs <= LATE * this.lookEveryMs ? gapMs : 0;
  }
}
