/**
 * The lease of a session's VM: how long it may act without a word that it is still the session's VM. Pure.
 * All times are of the clock that goes on while a machine sleeps.
 */

/** What was found out about whose VM it is: still the session's own, another one's place by now, or nothing. */
export type LeaseWord = 'ours' | 'anothers' | 'unknown';

export interface Lease {
  /** When its owner was last known to be this one: the time before the question, ms. */
  readonly provenAtMs: number;
  /** Another placement has the session, or it is over: no later word brings it back. */
  readonly isOver: boolean;
}

/** @param nowMs of the same clock. A clock that stands before the proof proves nothing. */
export function leaseStands({ provenAtMs, isOver }: Lease, nowMs: number, leaseMs: number): boolean {
  const ageMs = nowMs - provenAtMs;
  return !isOver && ageMs >= 0 && ageMs <= leaseMs;
}

/** @param askedAtMs when the question was asked */
export function withWord(lease: Lease, word: LeaseWord, askedAtMs: number): Lease {
  if (word === 'anothers') return { ...lease, isOver: true };
  if (word === 'unknown') return lease;
  return { ...lease, provenAtMs: Math.max(lease.provenAtMs, askedAtMs) };
}
