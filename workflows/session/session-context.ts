import { workflowInfo } from '@temporalio/workflow';
import type { PlacementActivities } from '../../activities/placement/placement-types.ts';
import type { SessionBookActivities, SessionHostActivities } from '../../activities/session/session-types.ts';
import { type SessionName, sessionId, shortHash } from '../../domain/names.ts';
import type { SessionPolicies } from '../../domain/policies.ts';
import type { Cause } from '../../domain/session/session-events.ts';
import { HostCalls } from '../placed/host-calls.ts';
import { InterruptibleWork } from '../placed/interruptible-work.ts';
import type { PlacedContext } from '../placed/placed-context.ts';
import type { PlacedOwner, PlacedProgress, ResolvedImage } from '../placed/placed-owner.ts';
import { Placements } from '../placed/placements.ts';
import { placementActivities } from '../placed/vm-activities.ts';
import { bookActivities, sessionHostActivities } from './session-activities.ts';
import type { SessionProgress } from './state/session-progress.ts';
import { ShownInEvents } from './state/shown-in-events.ts';
import type { HotSession } from './vm/hot-session.ts';
import { WorkspaceSaver } from './vm/workspace-saver.ts';

/** What the pieces of one session share. */
export class SessionContext implements PlacedContext<SessionHostActivities> {
  readonly name: SessionName;
  readonly policies: SessionPolicies;
  readonly control: PlacementActivities;
  readonly books: SessionBookActivities;
  readonly calls: HostCalls;
  readonly placements: Placements<SessionHostActivities>;
  readonly owner: PlacedOwner;
  readonly state: SessionProgress;
  readonly progress: PlacedProgress;
  readonly work: InterruptibleWork;
  readonly saver: WorkspaceSaver;
  /** The VM, while the session has one. */
  hot: HotSession | undefined;
  /** Why the VM is gone, as its host has said. */
  vmGone: Cause | undefined;
  /** True while its host pauses the VM: whoever comes now has to wake it. */
  isPausing = false;
  /** Why runs were cancelled, by their ids. */
  private readonly cancels = new Map<string, Cause>();

  constructor(name: SessionName, state: SessionProgress, policies: SessionPolicies) {
    this.name = name;
    this.policies = policies;
    this.state = state;
    this.progress = new ShownInEvents(state);
    this.work = new InterruptibleWork(() => state.leaving !== undefined);
    this.control = placementActivities(policies);
    this.books = bookActivities(policies);
    this.owner = this.placedOwner();
    this.calls = new HostCalls(this.control, policies, (text) => this.progress.note(text));
    this.saver = new WorkspaceSaver(this);
    const { place, epoch } = state.state;
    this.placements = new Placements<SessionHostActivities>({
      owner: this.owner,
      policies,
      hostActivities: (hostId) => sessionHostActivities(hostId, policies),
      isLost: (hostId) => this.calls.lostHosts.includes(hostId),
      from: { epoch, boots: place?.boot ?? 0 },
    });
    if (place !== undefined) {
      const { placed } = this.placements.goOn(place.hostId, place.reservationId, [place.vmId]);
      this.hot = { placed, vmId: place.vmId };
    }
  }

  /** Whether the history is long enough for a new execution: between two runs, or only while the session rests. */
  mustContinue(when: 'now' | 'at rest'): boolean {
    const { continueAsNewSuggested, historyLength } = workflowInfo();
    const { continueAfter, continueAnywayAfter, continueColdAfter } = this.policies.session;
    const atRest = this.hot === undefined ? continueColdAfter : continueAfter;
    return continueAsNewSuggested || historyLength > (when === 'now' ? continueAnywayAfter : atRest);
  }

  /** Whether the guest runs, and goes on running. */
  get isUsable(): boolean {
    return this.hot !== undefined && this.state.tier === 'hot' && !this.isPausing && this.vmGone === undefined;
  }

  /** Says nothing to a session that has no VM, nor is getting one. What is asked of it later wakes it again. */
  askSleep(): void {
    if (this.hot !== undefined || this.state.tier === 'restoring') this.state.askSleep();
  }

  /** A signal about another VM than the present one says nothing. */
  noteVmGone(vmId: string, reason: string): void {
    this.noteGone(vmId, { code: 'VM_DIED', detail: reason });
  }

  noteGone(vmId: string, cause: Cause): void {
    if (this.hot?.vmId === vmId) this.vmGone = cause;
  }

  /** Notes why a run is cancelled, so that its end says so. */
  noteCancel(runId: string, cause: Cause): void {
    if (!this.cancels.has(runId)) this.cancels.set(runId, cause);
  }

  /** Why that run was cancelled; undefined where it was not. */
  cancelCause(runId: string): Cause | undefined {
    return this.cancels.get(runId);
  }

  private placedOwner(): PlacedOwner {
    const { workflowId, firstExecutionRunId, startTime } = workflowInfo();
    const id = sessionId(this.name);
    const image: () => ResolvedImage = () => this.state.state.settings.image;
    return {
      workflowId,
      lineName: shortHash(workflowId),
      projectId: this.name.project,
      mayReturn: true,
      requestedAt: startTime.toISOString(),
      needs: () => ({ image: `${image().name}@${image().digest}`, resources: this.state.state.settings.resources }),
      call: (epoch) => ({ of: { kind: 'session', id, epoch }, firstExecutionId: firstExecutionRunId }),
    };
  }
}
