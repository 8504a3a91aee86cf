/** Who waits on this host for a larger reservation, in the order in which they came. It does not outlive the process. */

export interface Size {
  readonly vcpus: number;
  /** Guest and VMM together. */
  readonly memMib: number;
}

interface Waiting {
  readonly need: Size;
  /** Without another question until then, it has gone away; monotonic ms. */
  readonly until: number;
}

export class ReservationLine {
  /** In the order of their first questions: setting a known key keeps its place. */
  private readonly waiting = new Map<string, Waiting>();
  private readonly awake: () => number;

  /** @param awake monotonic ms */
  constructor(awake: () => number) {
    this.awake = awake;
  }

  /** Takes a place at the end, or keeps the one that is there, for `ms`. */
  keep(id: string, need: Size, ms: number): void {
    this.waiting.set(id, { need, until: this.awake() + ms });
  }

  leave(id: string): void {
    this.waiting.delete(id);
  }

  /** @returns who comes before this one: all of them where it has no place */
  ahead(id: string | undefined): ReadonlyMap<string, Size> {
    const found = new Map<string, Size>();
    for (const [other, { need, until }] of this.waiting) {
      if (other === id) break;
      if (until > this.awake()) found.set(other, need);
      else this.waiting.delete(other);
    }
    return found;
  }
}
