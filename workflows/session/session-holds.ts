import { ApplicationFailure, condition } from '@temporalio/workflow';
import { KilnError } from '../../domain/failures.ts';
import {
  type HeldVm,
  HOLD_KINDS,
  type HoldOrder,
  type Holds,
  holdsAt,
  holdsEndAt,
  judgeHold,
} from '../../domain/session/holds.ts';
import { codedError } from '../activity-verdict.ts';
import type { SessionContext } from './session-context.ts';
import { asFailure } from './state/session-failures.ts';
import { wake } from './vm/warm-and-wake.ts';

/**
 * The holds of one execution. None travels to the next execution: the session continues as new only without them.
 */
export class SessionHolds {
  private readonly ctx: SessionContext;
  private holds: Holds = new Map();
  /** Why the VM could not be had, by the ids of the holds that waited for it. */
  private readonly refusals = new Map<string, ApplicationFailure>();

  constructor(ctx: SessionContext) {
    this.ctx = ctx;
  }

  /** Whether nobody uses the VM beside the runs. */
  get isEmpty(): boolean {
    return holdsAt(this.holds, Date.now()).size === 0;
  }

  /** Whether a hold waits for a VM that nothing else brings up. */
  get needsWake(): boolean {
    return !this.ctx.isUsable && this.waiting().length > 0;
  }

  /** When the last hold ends by itself, ms since 1970; undefined where one waits, or there is none. */
  get endAt(): number | undefined {
    return holdsEndAt(this.holds);
  }

  /** Whether a hold can be taken now. @throws ApplicationFailure with a code, in an update's validator */
  judge(order: HoldOrder): void {
    asFailure(() => {
      this.ctx.state.assertStays();
      judgeHold(this.holds, order, Date.now());
      // Holds in an unbroken row would keep the session from continuing as new.
      if (!this.holds.has(order.id) && !this.isEmpty && this.ctx.mustContinue('now')) throw beginsAnew();
    });
  }

  /**
   * Takes a hold, and waits until the VM can be used. The same id again keeps the hold for longer.
   * @throws ApplicationFailure SESSION_CLOSED, SESSION_EXPIRED; CANCELLED where it was released meanwhile; the code of
   *   whatever stood in the way of a VM
   */
  async take(order: HoldOrder): Promise<HeldVm> {
    const { ctx } = this;
    const { id, kind } = order;
    this.judge(order);
    this.set(id, ctx.isUsable ? this.newEnd() : undefined);
    if (HOLD_KINDS[kind].isActivity) ctx.state.touch();
    await condition(() => ctx.isUsable || ctx.state.leaving !== undefined || !this.isWaiting(id));
    const refusal = this.refusals.get(id);
    if (refusal !== undefined) throw refusal;
    if (!this.holds.has(id)) throw ApplicationFailure.nonRetryable(`The hold ${id} was released.`, 'CANCELLED');
    asFailure(() => ctx.state.assertStays());
    if (ctx.hot === undefined) throw ApplicationFailure.nonRetryable('The VM is gone again.', 'VMM_EXITED');
    // Only now: what was written into a VM before this one is not in it.
    if (kind === 'writeFiles') ctx.state.writeFiles();
    this.set(id, this.newEnd());
    const { placed, vmId } = ctx.hot;
    return { hostId: placed.hostId, vmId, epoch: placed.epoch };
  }

  /** Ends a hold. An unknown one does nothing. */
  release(id: string): void {
    const holds = new Map(this.holds);
    holds.delete(id);
    this.holds = holds;
  }

  /** Brings the VM up for those that wait, or tells them why there is none. */
  async wake(): Promise<void> {
    const { ctx } = this;
    try {
      await ctx.work.run(() => wake(ctx, { code: 'HOLD' }));
    } catch (error) {
      // A session that leaves tells them so by itself.
      if (ctx.state.leaving !== undefined) return;
      const { code, message } = codedError(error);
      for (const id of this.waiting()) {
        this.refusals.set(id, ApplicationFailure.nonRetryable(message, code));
        this.release(id);
      }
    }
  }

  private set(id: string, endsAt: number | undefined): void {
    this.refusals.delete(id);
    this.holds = new Map(holdsAt(this.holds, Date.now())).set(id, endsAt);
  }

  private newEnd(): number {
    return Date.now() + this.ctx.policies.session.holdMs;
  }

  private isWaiting(id: string): boolean {
    return this.holds.has(id) && this.holds.get(id) === undefined;
  }

  private waiting(): readonly string[] {
    return [...this.holds].filter(([, endsAt]) => endsAt === undefined).map(([id]) => id);
  }
}

function beginsAnew(): KilnError {
  return new KilnError('QUEUE_FULL', 'The session is used without a pause; try again in a moment.');
}
