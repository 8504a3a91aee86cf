/** What a log line says about the state of its owner: the stage of a workload, the tier of a session. */
import type { OwnerKind } from '../owner.ts';
import { TIERS, type Tier } from '../session/tiers.ts';
import { STAGES, type Stage } from '../workload/stages.ts';

export type LogStage = Stage | Tier;

/** The stages that a log may name, by the kind of its owner. */
export const LOG_STAGES: { readonly [Kind in OwnerKind]: readonly LogStage[] } = { workload: STAGES, session: TIERS };

/** Stage of a line about an owner's VM while the VM is made and booted. */
export const STARTING: { readonly [Kind in OwnerKind]: LogStage } = { workload: 'deploy', session: 'restoring' };

/** Stage of a line about an owner's VM while the owner's code runs in it. */
export const AT_WORK: { readonly [Kind in OwnerKind]: LogStage } = { workload: 'running', session: 'hot' };
