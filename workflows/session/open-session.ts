import { ApplicationFailure } from '@temporalio/common';
import { resolveSessionPolicies } from '../../domain/policies.ts';
import { newSession, type SessionInput } from '../../domain/session/session-state.ts';
import { SessionContext } from './session-context.ts';
import { SessionProgress } from './state/session-progress.ts';

/** @returns the session as it was carried on, or as it begins. @throws ApplicationFailure SPEC_INVALID */
export function openContext({ name, settings, policies, carried }: SessionInput): SessionContext {
  const state = carried ?? newSession(settings, Date.now());
  if (state.schemaVersion !== 1) {
    throw ApplicationFailure.nonRetryable('The carried state of a session must be of version 1.', 'SPEC_INVALID');
  }
  return new SessionContext(name, new SessionProgress(state), resolveSessionPolicies(policies));
}

/**
 * Reads what is on record of the session: whether it may live at all, with which settings, and which run ids the thread
 * has used before. A session that is not open any more leaves.
 */
export async function readBooks({ name, state, books, placements }: SessionContext): Promise<void> {
  const found = await books.openSession({ name });
  if (found.state !== 'open') return state.leaveUnrecorded(found.end);
  state.open(found);
  placements.goOnAfter(state.state.epoch);
}
