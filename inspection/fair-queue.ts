/** Waiting work of several owners, who are served in turn: one that asks much keeps only itself waiting. */

export interface FairQueueLimits {
  readonly max: number;
  readonly maxPerOwner: number;
}

export class FairQueue<T> {
  private readonly limits: FairQueueLimits;
  /** In the order in which the owners are served next; none of the lists is empty. */
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

  /** @returns the next item: of the owner who was served longest ago, the one that has waited longest */
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

  /** Forgets an item that nobody waits for any more. @returns whether it was waiting */
  remove(owner: string, item: T): boolean {
    const own = this.waiting.get(owner) ?? [];
    const index = own.indexOf(item);
    if (index < 0) return false;
    own.splice(index, 1);
    this.size -= 1;
    if (own.length === 0) this.waiting.delete(owner);
    return true;
  }

  /** @returns everything that waits; nothing waits afterwards */
  drain(): T[] {
    const all = [...this.waiting.values()].flat();
    this.waiting.clear();
    this.size = 0;
    return all;
  }
}
