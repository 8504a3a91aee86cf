import { CancellationScope, patched, sleep, workflowInfo } from '@temporalio/workflow';
import type { ControlActivities, HostActivities } from '../../activities/activity-types.ts';
import type { OwnerClaim } from '../../activities/vm/vm-types.ts';
import type { ControlLogLine } from '../../activities/workload/service-types.ts';
import { isOutage } from '../../domain/failures.ts';
import type { LogLevel } from '../../domain/logs/log-entry.ts';
import { reservationId, type SearchAttribute, vmId } from '../../domain/names.ts';
import { backoffMs, resolvePolicies, type WorkloadPolicies } from '../../domain/policies.ts';
import type { VmRole } from '../../domain/vm.ts';
import type { Stage } from '../../domain/workload/stages.ts';
import type { ServiceNeeds } from '../../domain/workload/workload.ts';
import type { WorkloadInput } from '../../domain/workload/workload-input.ts';
import { setAttributes } from '../search-attributes.ts';
import { type Undo, UndoLedger } from '../undo-ledger.ts';
import { judge, StageFailure } from '../workflow-failures.ts';
import { silenceOf } from './silent-host.ts';
import { controlActivities, hostActivities, releaseOnLostHost } from './workload-activities.ts';
import { type EndCause, now, WorkloadRecord } from './workload-record.ts';

/** Thrown out of a stage once the outcome is fixed; carries nothing, the record knows why. */
export class Leaving extends Error {
  override readonly name = 'Leaving';
}

/** Where the workload is placed, and what of it exists on that host. */
export interface Placed {
  readonly hostId: string;
  readonly epoch: number;
  readonly reservationId: string;
  readonly host: HostActivities;
  /** Names of VMs that may exist; each is added before anything is made under it. */
  readonly vmIds: string[];
}

/** All that the stages of one workload share: input, policies, record, ledger, names. */
export class WorkloadContext {
  readonly input: WorkloadInput;
  readonly policies: WorkloadPolicies;
  readonly record: WorkloadRecord;
  readonly undo = new UndoLedger();
  readonly control: ControlActivities;
  readonly lostHosts: string[] = [];
  /** What the request asks for; once the service is validated, what its manifest asks for too. */
  needs: ServiceNeeds;
  private readonly workflowId = workflowInfo().workflowId;
  private scope: CancellationScope | undefined;
  private epoch: number;
  private boots: number;
  private readonly logLines: ControlLogLine[] = [];
  private logCount: number;

  constructor(input: WorkloadInput) {
    this.input = input;
    this.needs = { image: input.image, resources: input.resources };
    this.policies = resolvePolicies(input.policies);
    this.record = new WorkloadRecord(input);
    this.control = controlActivities(this.policies);
    this.epoch = input.carried?.state.vm?.epoch ?? 0;
    this.boots = input.carried?.state.vm?.boot ?? 0;
    this.logCount = input.carried?.controlLogLines ?? 0;
    this.logLines.push(...(input.carried?.pendingLogLines ?? []));
  }

  /** Fixes the outcome and interrupts what is being waited for. Synchronous and idempotent: signal handlers call it. */
  leave(cause: EndCause): void {
    if (this.record.leave(cause)) this.scope?.cancel();
  }

  /** Runs a piece of a stage so that `leave` interrupts it. @throws Leaving */
  async interruptible<T>(work: () => Promise<T>): Promise<T> {
    if (this.record.end) throw new Leaving();
    this.scope = new CancellationScope();
    try {
      return await this.scope.run(work);
    } finally {
      this.scope = undefined;
    }
  }

  /** Moves on to the next stage, unless the outcome is fixed already: then the stage stays. @throws Leaving */
  advance(to: Stage, cause: string, attributes: Partial<Record<SearchAttribute, string>> = {}): void {
    if (this.record.end) throw new Leaving();
    this.record.enter(to, cause, attributes);
  }

  /** Mints the names of a new placement and registers its release, before anything is asked of the host. */
  newPlacement(hostId: string): { placed: Placed; undo: Undo } {
    this.epoch += 1;
    this.boots = 0;
    return this.knownPlacement(hostId, reservationId(this.workflowId, this.epoch), []);
  }

  /** The placement an earlier execution made; its release is registered anew. */
  knownPlacement(hostId: string, reservation: string, vmIds: string[]): { placed: Placed; undo: Undo } {
    const host = hostActivities(hostId, this.policies);
    const placed: Placed = { hostId, epoch: this.epoch, reservationId: reservation, host, vmIds };
    const undo: Undo = {
      name: `reservation ${reservation}`,
      hostId,
      release: async () => {
        const graceMs = this.policies.leave.graceMs;
        await this.releaser(placed)({ ...this.ref(placed), vmIds, reservationId: reservation, graceMs });
      },
    };
    this.undo.register(undo);
    return { placed, undo };
  }

  /** @returns the release activity of a host, or a less patient one where the host is known to be lost. */
  releaser({ hostId, host }: Placed): HostActivities['releaseVm'] {
    return this.lostHosts.includes(hostId) ? releaseOnLostHost(hostId, this.policies) : host.releaseVm;
  }

  /** A refused placement gives its epoch back: nothing was made under it. */
  forgetPlacement(): void {
    this.epoch -= 1;
  }

  /** Shows a placement that follows a lost host; the stage stays. */
  moved(placed: Placed): void {
    setAttributes({ KilnHost: placed.hostId });
    const text = `placed again on ${placed.hostId}, epoch ${placed.epoch}`;
    this.record.note(text);
    this.log('info', text);
  }

  ref(placed: Placed): { workloadId: string; epoch: number } {
    return { workloadId: this.input.workloadId, epoch: placed.epoch };
  }

  /** Mints the name and owner of a new VM: every boot has a name of its own, so nothing dirty is used again. */
  mintVm(placed: Placed, role: VmRole): { vmId: string; boot: number; owner: OwnerClaim } {
    this.boots += 1;
    const { workflowId, firstExecutionRunId } = workflowInfo();
    return {
      vmId: vmId(workflowId, placed.epoch, this.boots),
      boot: this.boots,
      owner: {
        workflowId,
        firstExecutionId: firstExecutionRunId,
        epoch: placed.epoch,
        boot: this.boots,
        role,
        ...(this.input.projectId === undefined ? {} : { projectId: this.input.projectId }),
      },
    };
  }

  log(level: LogLevel, message: string): void {
    const { stage } = this.record;
    this.logLines.push({ epoch: this.epoch, n: this.logCount, timestamp: now(), stage, level, message });
    this.logCount += 1;
  }

  get pendingLogLines(): readonly ControlLogLine[] {
    return this.logLines;
  }

  get controlLogLines(): number {
    return this.logCount;
  }

  /**
   * Calls an activity of a host until it answers. A time-out of the host itself is suspicion: the same call, with the
   * same names, is made again for as long as the host may come back; and so it is, a number of times, while the store is
   * away.
   * @throws StageFailure HOST_LOST
   */
  async onHost<T>(placed: Placed, call: () => Promise<T>): Promise<T> {
    for (let outages = 0, suspicions = 0; ; ) {
      try {
        return await call();
      } catch (error) {
        const verdict = judge(error);
        if (verdict.kind === 'suspicion') {
          suspicions += 1;
          this.record.note(`${placed.hostId}: ${verdict.message}`);
          // One that registers and takes no calls is cut off from Temporal alone.
          if (suspicions > this.policies.host.outageTries && patched('lose-a-deaf-host'))
            throw this.hostDeaf(placed.hostId);
          await this.untilHostAnswers(placed.hostId);
        } else if (verdict.kind === 'failure' && isOutage(verdict.code) && outages < this.policies.host.outageTries) {
          outages += 1;
          this.record.note(`${placed.hostId}: ${verdict.message}`);
          await this.outagePause(outages);
        } else throw error;
      }
    }
  }

  /**
   * Calls an activity of the control workers until one of them, and the store, answers. None of them running is no fact
   * about the workload.
   * @param deadline until when it is called again, ms since 1970
   */
  async onControl<T>(call: () => Promise<T>, deadline: number): Promise<T> {
    for (let outages = 1; ; outages++) {
      try {
        return await call();
      } catch (error) {
        const verdict = judge(error);
        const passing =
          verdict.kind === 'timeout' ||
          verdict.kind === 'suspicion' ||
          (verdict.kind === 'failure' && isOutage(verdict.code));
        if (!passing || Date.now() >= deadline || !patched('wait-for-control')) throw error;
        this.record.note(verdict.message);
        await this.outagePause(outages);
      }
    }
  }

  /** Longer with each outage in a row. */
  outagePause(outages: number): Promise<void> {
    const { backoffMs: firstMs, maxBackoffMs } = this.policies.placement;
    return sleep(backoffMs(outages, firstMs, maxBackoffMs), { summary: 'until what was away is back' });
  }

  /** Waits until a suspected host shows that it is there. @throws StageFailure HOST_LOST */
  async untilHostAnswers(hostId: string): Promise<void> {
    const silentMs = await silenceOf(hostId, this.control, this.policies.host);
    if (silentMs !== undefined) throw this.hostLost(hostId, silentMs);
  }

  private hostLost(hostId: string, silentMs: number): StageFailure {
    return this.lost(hostId, `Host ${hostId} has not been heard of for ${Math.round(silentMs / 1000)} s.`);
  }

  private hostDeaf(hostId: string): StageFailure {
    return this.lost(hostId, `Host ${hostId} registers, but has taken no calls for long: is it cut off from Temporal?`);
  }

  private lost(hostId: string, message: string): StageFailure {
    this.lostHosts.push(hostId);
    return new StageFailure({ code: 'HOST_LOST', message, stage: this.record.stage });
  }
}
