import { workflowInfo } from '@temporalio/workflow';
import type { ControlActivities, HostActivities } from '../../activities/activity-types.ts';
import type { WorkloadRef } from '../../activities/vm/vm-types.ts';
import { defined } from '../../domain/defined.ts';
import type { LogLevel } from '../../domain/logs/log-entry.ts';
import type { SearchAttribute } from '../../domain/names.ts';
import { resolvePolicies, type WorkloadPolicies } from '../../domain/policies.ts';
import type { Stage } from '../../domain/workload/stages.ts';
import type { ServiceNeeds } from '../../domain/workload/workload.ts';
import type { WorkloadInput } from '../../domain/workload/workload-input.ts';
import { HostCalls } from '../placed/host-calls.ts';
import { InterruptibleWork, Leaving } from '../placed/interruptible-work.ts';
import type { PlacedContext } from '../placed/placed-context.ts';
import type { PlacedOwner } from '../placed/placed-owner.ts';
import { type Placed, Placements } from '../placed/placements.ts';
import { setAttributes } from '../search-attributes.ts';
import { ControlLogLines } from './control-log-lines.ts';
import { controlActivities, hostActivities } from './workload-activities.ts';
import { type EndCause, WorkloadProgress } from './workload-progress.ts';

/** A workload's placement, with the activities of its host. */
export type PlacedWorkload = Placed<HostActivities>;

/** What all stages of one workload share: input, policies, progress, placements. */
export class WorkloadContext implements PlacedContext<HostActivities> {
  readonly input: WorkloadInput;
  readonly policies: WorkloadPolicies;
  readonly progress: WorkloadProgress;
  readonly control: ControlActivities;
  readonly calls: HostCalls;
  readonly placements: Placements<HostActivities>;
  readonly logLines: ControlLogLines;
  readonly owner: PlacedOwner;
  /** What the request asks for; after validation, also what the manifest asks for. */
  needs: ServiceNeeds;
  private readonly work: InterruptibleWork;

  constructor(input: WorkloadInput) {
    this.input = input;
    this.needs = { image: input.image, resources: input.resources };
    this.policies = resolvePolicies(input.policies);
    this.progress = new WorkloadProgress(input);
    this.work = new InterruptibleWork(() => this.progress.end !== undefined);
    this.control = controlActivities(this.policies);
    this.logLines = new ControlLogLines(input.carried);
    this.owner = this.ownerOf(input);
    this.calls = new HostCalls(this.control, this.policies, (text) => this.progress.note(text));
    this.placements = new Placements({
      owner: this.owner,
      policies: this.policies,
      hostActivities: (hostId) => hostActivities(hostId, this.policies),
      isLost: (hostId) => this.calls.lostHosts.includes(hostId),
      from: { epoch: input.carried?.state.vm?.epoch ?? 0, boots: input.carried?.state.vm?.boot ?? 0 },
    });
  }

  /** Fixes the outcome and interrupts the current wait. Synchronous and idempotent: signal handlers call it. */
  leave(cause: EndCause): void {
    if (this.progress.leave(cause)) this.work.interrupt();
  }

  /** Runs a piece of a stage so that `leave` interrupts it. @throws Leaving */
  interruptible<T>(work: () => Promise<T>): Promise<T> {
    return this.work.run(work);
  }

  /** Enters the next stage. Where the outcome is already fixed, the stage stays. @throws Leaving */
  advance(to: Stage, cause: string, attributes: Partial<Record<SearchAttribute, string>> = {}): void {
    if (this.progress.end) throw new Leaving();
    this.progress.enter(to, cause, attributes);
  }

  /** Shows the new placement after a lost host; the stage stays. */
  moved(placed: PlacedWorkload): void {
    setAttributes({ KilnHost: placed.hostId });
    const text = `placed again on ${placed.hostId}, epoch ${placed.epoch}`;
    this.progress.note(text);
    this.log('info', text);
  }

  ref({ epoch }: PlacedWorkload): WorkloadRef {
    return { workloadId: this.input.workloadId, epoch, firstExecutionId: workflowInfo().firstExecutionRunId };
  }

  log(level: LogLevel, message: string): void {
    this.logLines.add(level, message, { epoch: this.placements.epoch, stage: this.progress.stage });
  }

  private ownerOf({ workloadId, projectId, priority, requestedAt }: WorkloadInput): PlacedOwner {
    return {
      workflowId: workflowInfo().workflowId,
      lineName: workloadId,
      hostname: workloadId,
      ...defined({ projectId, priority }),
      requestedAt,
      needs: () => this.needs,
      call: (epoch) => ({ workloadId, epoch, firstExecutionId: workflowInfo().firstExecutionRunId }),
    };
  }
}
