import type { SessionHostActivities } from '../../../activities/session/session-types.ts';
import type { Placed } from '../../placed/placements.ts';

/** The session's place and the VM in it; its guest runs or is paused. */
export interface HotSession {
  readonly placed: Placed<SessionHostActivities>;
  readonly vmId: string;
}
