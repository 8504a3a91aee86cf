/** Whether an event loop stands still, told from looks at it. Pure: clock and counters come from outside. */

export interface LoopLook {
  /** Monotonic; stands still while the machine sleeps. */
  readonly nowMs: number;
  /** Grows with every turn of the loop. */
  readonly turns: number;
  /** How long the watched thread has waited for a processor since its start; 0 where nobody knows. */
  readonly waitedMs: number;
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
   * @returns how long the loop has not turned though it could have, ms: neither the time counts in which the watcher did
   * not run (a machine asleep, a process stopped), nor that in which the thread waited for a processor
   */
  look(look: LoopLook): number {
    const { last } = this;
    this.last = look;
    if (look.turns !== last.turns) this.stillMs = 0;
    else {
      const gapMs = look.nowMs - last.nowMs;
      if (gapMs <= LATE * this.lookEveryMs) this.stillMs += Math.max(0, gapMs - (look.waitedMs - last.waitedMs));
    }
    return this.stillMs;
  }
}
