/** Tells waiters that something of a name has changed. A change that nobody waits for is forgotten. */
export interface Changes {
  /** Resolves at the next change of that name. Take it before the look that decides whether to wait. */
  next(name: string, signal: AbortSignal): Promise<void>;
  tell(name: string): void;
}

export function createChanges(): Changes {
  const waiting = new Map<string, Set<() => void>>();
  return {
    next(name, signal) {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const all = waiting.get(name) ?? new Set();
      const onAbort = () => reject(signal.reason);
      const told = () => resolve();
      waiting.set(name, all.add(told));
      signal.addEventListener('abort', onAbort, { once: true });
      if (signal.aborted) onAbort();
      const forget = () => {
        signal.removeEventListener('abort', onAbort);
        all.delete(told);
        if (all.size === 0 && waiting.get(name) === all) waiting.delete(name);
      };
      promise.then(forget, forget);
      return promise;
    },
    tell(name) {
      const all = waiting.get(name);
      waiting.delete(name);
      for (const told of all ?? []) told();
    },
  };
}
