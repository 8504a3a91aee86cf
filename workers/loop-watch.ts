/** Whether an event loop stands still, told from looks at it. Pure: clock and counters come from outside. */

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

/** A look that comes so many times later than it should shows that the watcher, too, did not run. */
const LATE = 2;

export class LoopWatch {
  private readonly lookEveryMs: number;
  private last: LoopLook;
  private stillMs = 0;

  /** @param lookEveryMs from one look to the next */
  constructor(lookEveryMs: number, first: LoopLook) {
    this.lookEveryMs = lookEveryMs;
    this.last = first;
  }

  /**
   * @returns how long the loop has not turned though it could have, ms: what it has computed meanwhile, and how long it
   * has waited for something. Waiting for a processor does not count, nor does a time in which the watcher, too, did not
   * run: the machine slept, or the process was stopped.
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
