import { patched, sleep } from '@temporalio/workflow';
import type { PlacementActivities } from '../../activities/placement/placement-types.ts';
import { isOutage } from '../../domain/failures.ts';
import { backoffMs, type PlacedPolicies } from '../../domain/policies.ts';
import { CodedFailure, judge } from '../activity-verdict.ts';
import { entryAge, silenceOf } from './silent-host.ts';

/** Calls of hosts and control workers, repeated for as long as an absent host, worker or store may come back. */
export class HostCalls {
  /** Hosts that this owner treats as lost. */
  readonly lostHosts: string[] = [];
  /** Those of them that have registered all the while: until when each counts as that. */
  private readonly deafUntil = new Map<string, number>();
  private readonly control: Pick<PlacementActivities, 'checkHost'>;
  private readonly policies: Pick<PlacedPolicies, 'host' | 'placement'>;
  private readonly note: (text: string) => void;

  constructor(
    control: Pick<PlacementActivities, 'checkHost'>,
    policies: Pick<PlacedPolicies, 'host' | 'placement'>,
    note: (text: string) => void,
  ) {
    this.control = control;
    this.policies = policies;
    this.note = note;
  }

  /**
   * Calls an activity of a host until it answers. A time-out of the host only makes it suspect: the same call, with
   * the same names, is repeated for as long as the host may come back. While the store is away, the call is repeated
   * a limited number of times.
   * @param how `move`: the owner loses nothing on another host, so one that has not registered for a while counts as
   *   lost; the call has a short time to be picked up
   * @throws CodedFailure HOST_LOST
   */
  async onHost<T>(
    { hostId }: { readonly hostId: string },
    call: () => Promise<T>,
    how: 'wait' | 'move' = 'wait',
  ): Promise<T> {
    let mayMove = how === 'move';
    for (let outages = 0, suspicions = 0; ; ) {
      try {
        return await call();
      } catch (error) {
        const verdict = judge(error);
        if (verdict.kind === 'suspicion') {
          suspicions += 1;
          this.note(`${hostId}: ${verdict.message}`);
          // Still registers but takes no tasks: it has lost only Temporal.
          if (suspicions > this.policies.host.outageTries && patched('lose-a-deaf-host')) throw this.hostDeaf(hostId);
          // What a call that was taken has done on that host is not known.
          mayMove &&= !verdict.wasTaken;
          await (mayMove ? this.unlessSilent(hostId) : this.untilHostAnswers(hostId));
        } else if (verdict.kind === 'failure' && isOutage(verdict.code) && outages < this.policies.host.outageTries) {
          outages += 1;
          this.note(`${hostId}: ${verdict.message}`);
          await this.outagePause(outages);
        } else throw error;
      }
    }
  }

  /**
   * Hosts on which nothing of this owner is placed now.
   * @param mayReturn whether the owner may come back to a host that it took for lost, once that registers again
   */
  avoided(mayReturn: boolean): readonly string[] {
    if (!mayReturn) return this.lostHosts;
    return this.lostHosts.filter((hostId) => (this.deafUntil.get(hostId) ?? 0) > Date.now());
  }

  /** The owner is placed there again. */
  isBack(hostId: string): void {
    this.deafUntil.delete(hostId);
    for (let at = this.lostHosts.indexOf(hostId); at >= 0; at = this.lostHosts.indexOf(hostId)) {
      this.lostHosts.splice(at, 1);
    }
  }

  /** Whether a host may still let a VM of this owner run: it registered, so it is cut off from Temporal alone. */
  isDeaf(hostId: string): boolean {
    return this.deafUntil.has(hostId);
  }

  /**
   * Calls an activity of the control workers until one of them, and the store, answers. An outage of all control
   * workers says nothing about the owner.
   * @param deadline the call is repeated until then, ms since 1970
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
        this.note(verdict.message);
        await this.outagePause(outages);
      }
    }
  }

  /** Longer with each outage in a row. */
  outagePause(outages: number): Promise<void> {
    const { backoffMs: firstMs, maxBackoffMs } = this.policies.placement;
    return sleep(backoffMs(outages, firstMs, maxBackoffMs), { summary: 'until what was away is back' });
  }

  /** Waits until a suspected host shows that it is running. @throws CodedFailure HOST_LOST */
  async untilHostAnswers(hostId: string): Promise<void> {
    const silentMs = await silenceOf(hostId, this.control, this.policies.host);
    if (silentMs !== undefined) throw this.hostLost(hostId, silentMs);
  }

  /** @throws CodedFailure HOST_LOST where the host has not registered for a while. The next try takes some time, too. */
  private async unlessSilent(hostId: string): Promise<void> {
    const { silentMs } = this.policies.host.movesAfter;
    const age = await entryAge(hostId, this.control);
    if (age === 'unknown') await this.untilHostAnswers(hostId);
    else if (age === 'none' || age > silentMs) throw this.hostLost(hostId, age === 'none' ? silentMs : age);
  }

  private hostLost(hostId: string, silentMs: number): CodedFailure {
    return this.lost(hostId, `Host ${hostId} has not been heard of for ${Math.round(silentMs / 1000)} s.`);
  }

  private hostDeaf(hostId: string): CodedFailure {
    this.deafUntil.set(hostId, Date.now() + this.policies.host.lostAfterMs);
    return this.lost(hostId, `Host ${hostId} registers, but has taken no calls for long: is it cut off from Temporal?`);
  }

  private lost(hostId: string, message: string): CodedFailure {
    this.lostHosts.push(hostId);
    return new CodedFailure({ code: 'HOST_LOST', message });
  }
}
