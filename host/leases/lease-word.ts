/** Asks whether a VM is still its session's own: Temporal first, and where that does not answer, the head in the store. */
import { setTimeout as delay } from 'node:timers/promises';
import { sessionNameOf } from '../../domain/names.ts';
import type { LeaseWord } from '../../domain/session/lease.ts';
import type { OwnerVerdict } from '../../domain/upkeep/sweep-policy.ts';
import type { VmOwner } from '../../domain/vm.ts';
import type { SessionSaves } from '../../ports/saves.ts';

export interface LeaseWordOptions {
  readonly lookup: (owner: VmOwner) => Promise<OwnerVerdict>;
  readonly saves: Pick<SessionSaves, 'claim'>;
  /** How long each of the two may take, ms. */
  readonly askMs: number;
}

/** @returns the question; it never fails */
export function createLeaseWord(options: LeaseWordOptions): (owner: VmOwner) => Promise<LeaseWord> {
  const { lookup, saves, askMs } = options;
  return async (owner) => {
    const verdict = await inTime(lookup(owner), askMs);
    if (verdict === 'open') return 'ours';
    if (verdict === 'over') return 'anothers';
    const session = sessionNameOf(owner.workflowId);
    if (session === undefined) return 'unknown';
    return (await inTime(saves.claim({ session, epoch: owner.epoch }), askMs)) ?? 'unknown';
  };
}

/** @returns undefined where there is no answer in time, or none at all */
async function inTime<T>(answer: Promise<T>, askMs: number): Promise<T | undefined> {
  const late = new AbortController();
  try {
    return await Promise.race([answer, delay(askMs, undefined, { signal: late.signal, ref: false })]);
  } catch {
    return undefined;
  } finally {
    late.abort();
    answer.catch(() => undefined);
  }
}
