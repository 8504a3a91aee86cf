import { abortable } from './deadline.ts';

/**
 * Runs one piece of work per key at a time; a waiting caller can give up without disturbing the others. Abandoned work
 * does not block the next: it may never end.
 */
export class AbandonableTurns {
  private readonly last = new Map<string, Promise<unknown>>();

  /** Runs `work` after every earlier work of this key has settled or was abandoned through its signal. */
  async run<T>(key: string, work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const before = this.last.get(key) ?? Promise.resolve();
    const mine = before.then(() => {
      signal.throwIfAborted();
      return work();
    });
    const settled = before.then(() => endOrAbort(mine, signal));
    this.last.set(key, settled);
    void settled.then(() => {
      if (this.last.get(key) === settled) this.last.delete(key);
    });
    return Promise.race([mine, aborted(signal, before)]);
  }
}

/** Resolves when the work has ended or its signal has fired, whichever is first. */
function endOrAbort(work: Promise<unknown>, signal: AbortSignal): Promise<void> {
  const over = () => undefined;
  return abortable(work, signal).then(over, over);
}

/** Rejects when the signal fires before the turn comes; after that the work itself handles the signal. */
function aborted(signal: AbortSignal, turn: Promise<unknown>): Promise<never> {
  return new Promise((_, reject) => {
    const onAbort = () => reject(signal.reason);
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    void turn.then(() => signal.removeEventListener('abort', onAbort));
  });
}
