import { abortable } from './deadline.ts';

/**
 * Lets one piece of work per key run at a time; whoever waits can give up without disturbing the others. Work that was
 * given up keeps nobody waiting: it may hang for ever.
 */
export class AbandonableTurns {
  private readonly last = new Map<string, Promise<unknown>>();

  /** Runs `work` after every earlier work of this key has ended, whatever its end, or was given up by its signal. */
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

/** Rejects when the signal fires while the turn has not come; once it has come, the work itself answers for the signal. */
function aborted(signal: AbortSignal, turn: Promise<unknown>): Promise<never> {
  return new Promise((_, reject) => {
    const onAbort = () => reject(signal.reason);
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    void turn.then(() => signal.removeEventListener('abort', onAbort));
  });
}
