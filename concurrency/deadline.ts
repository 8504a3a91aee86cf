/** Waits that can end before the awaited work does. The work itself continues; its result or error is then ignored. */

/** @throws the signal's reason, or what `reason` makes, once it fires; at once where it has fired */
export async function abortable<T>(
  work: Promise<T>,
  signal: AbortSignal | undefined,
  reason: () => unknown = () => signal?.reason,
): Promise<T> {
  if (signal === undefined) return await work;
  const aborted = Promise.withResolvers<never>();
  const stop = onAbort(signal, () => aborted.reject(reason()));
  try {
    return await Promise.race([aborted.promise, work]);
  } finally {
    stop();
  }
}

/** @throws what `late` makes where the work is not done within `ms` */
export async function inTime<T>(work: Promise<T>, ms: number, late: () => Error): Promise<T> {
  const over = Promise.withResolvers<never>();
  const timer = setTimeout(() => over.reject(late()), ms);
  try {
    return await Promise.race([work, over.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** @returns undefined where the work is not done within `ms` */
export async function within<T>(work: Promise<T>, ms: number): Promise<T | undefined> {
  const over = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => over.resolve(undefined), ms);
  try {
    return await Promise.race([work, over.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** @returns milliseconds left until a moment of the monotonic clock (`performance.now()`), at least 1, as timers take them */
export function msUntil(deadline: number): number {
  return Math.max(1, Math.ceil(deadline - performance.now()));
}

/** Calls `act` when the signal fires, at once where it has fired. @returns a function that cancels this */
export function onAbort(signal: AbortSignal, act: () => void): () => void {
  if (signal.aborted) act();
  else signal.addEventListener('abort', act, { once: true });
  return () => signal.removeEventListener('abort', act);
}

/** @returns a signal that fires when either of the two does */
export function eitherSignal(signal: AbortSignal, other: AbortSignal | undefined): AbortSignal {
  return other === undefined ? signal : AbortSignal.any([signal, other]);
}
