/** Waiting work of several owners, served in turn: an owner with many requests delays only itself. */

export interface FairQueueLimits {
  readonly max: number;
  readonly maxPerOwner: number;
}

export class FairQueue<T> {
  private readonly limits: FairQueueLimits;
  /** In the order in which the owners are served next; no list is empty. */
  private readonly waiting = new Map<string, T[]>();
  private size = 0;

  constructor(limits: FairQueueLimits) {
    this.limits = limits;
  }

  /** @returns false where there is no room for it */
  add(owner: string, item: T): boolean {
    const own = this.waiting.get(owner) ?? [];
    if (this.size >= this.limits.max || own.length >= this.limits.maxPerOwner) return false;
    own.push(item);
    this.waiting.set(owner, own);
    this.size += 1;
    return true;
  }

  /** @returns the item that has waited longest, of the owner who was served longest ago */
  take(): T | undefined {
    for (const [owner, own] of this.waiting) {
      const item = own.shift();
      this.waiting.delete(owner);
      if (own.length > 0) this.waiting.set(owner, own);
      this.size -= 1;
      return item;
    }
    return undefined;
  }

  /** Removes an item that is no longer needed. @returns whether it was waiting */
  remove(owner: string, item: T): boolean {
    const own = this.waiting.get(owner) ?? [];
    const index = own.indexOf(item);
    if (index < 0) return false;
    own.splice(index, 1);
    this.size -= 1;
    if (own.length === 0) this.waiting.delete(owner);
    return true;
  }

  /** @returns all waiting items; the queue is empty afterwards */
  drain(): T[] {
    const all = [...this.waiting.values()].flat();
    this.waiting.clear();
    this.size = 0;
    return all;
  }
}
