/**
 * The lease of a session's VM: how long it may act without a word that it is still the session's VM. Pure.
 * All times are of the clock that goes on while a machine sleeps.
 */

/** What was found out about whose VM it is: still the session's own, another one's place by now, or nothing. */
export type LeaseWord = 'ours' | 'anothers' | 'unknown';

export interface Lease {
  /** When its owner was last known to be this one: the time before the question, ms. */
  readonly provenAtMs: number;
  /** The last word was that another placement has the session, or that it is over. */
  readonly isAnothers: boolean;
}

/** @param nowMs of the same clock. A clock that stands before the proof proves nothing. */
export function leaseStands(lease: Lease, nowMs: number, leaseMs: number): boolean {
  return leftOf(lease, nowMs, leaseMs) >= 0;
}

/** @returns how long the lease stands from now on, ms; negative: it does not */
export function leftOf({ provenAtMs, isAnothers }: Lease, nowMs: number, leaseMs: number): number {
  const ageMs = nowMs - provenAtMs;
  return isAnothers || ageMs < 0 ? -1 : leaseMs - ageMs;
}

/** @param askedAtMs when the question was asked */
export function withWord(lease: Lease, word: LeaseWord, askedAtMs: number): Lease {
  if (word === 'unknown') return lease;
  if (word === 'anothers') return { ...lease, isAnothers: true };
  return { provenAtMs: Math.max(lease.provenAtMs, askedAtMs), isAnothers: false };
}
