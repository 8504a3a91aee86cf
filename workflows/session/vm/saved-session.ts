import type { SessionName } from '../../../domain/names.ts';
import type { SessionPolicies } from '../../../domain/policies.ts';
import type { Cause } from '../../../domain/session/session-events.ts';
import type { HostCalls } from '../../placed/host-calls.ts';
import type { PlacedOwner, PlacedProgress } from '../../placed/placed-owner.ts';
import type { SessionProgress } from '../state/session-progress.ts';
import type { HotSession } from './hot-session.ts';

/** What saves need of the context of their session. */
export interface SavedSession {
  readonly name: SessionName;
  readonly policies: Pick<SessionPolicies, 'save'>;
  readonly state: SessionProgress;
  readonly calls: HostCalls;
  readonly owner: PlacedOwner;
  readonly progress: PlacedProgress;
  readonly hot: HotSession | undefined;
  /** Whether the guest runs, and goes on running. */
  readonly isUsable: boolean;
  noteGone(vmId: string, cause: Cause): void;
}
