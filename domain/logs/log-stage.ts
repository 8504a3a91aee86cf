/** What a line of a log says of where its owner was then: the stage of a workload, the tier of a session. */
import type { OwnerKind } from '../owner.ts';
import { TIERS, type Tier } from '../session/tiers.ts';
import { STAGES, type Stage } from '../workload/stages.ts';

export type LogStage = Stage | Tier;

/** The stages that the log of an owner may name, by its kind. */
export const LOG_STAGES: { readonly [Kind in OwnerKind]: readonly LogStage[] } = { workload: STAGES, session: TIERS };

/** Stage of a line about the VM of an owner while it is made and booted. */
export const STARTING: { readonly [Kind in OwnerKind]: LogStage } = { workload: 'deploy', session: 'restoring' };

/** Stage of a line about the VM of an owner while its own code runs in it. */
export const AT_WORK: { readonly [Kind in OwnerKind]: LogStage } = { workload: 'running', session: 'hot' };
