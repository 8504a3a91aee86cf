import { isStored } from '../../../domain/session/save-book.ts';
import type { Cause } from '../../../domain/session/session-events.ts';
import { expiryOf } from '../../../domain/session/session-state.ts';
import type { SessionContext } from '../session-context.ts';
import { release } from './warm-and-wake.ts';

/** @returns when a session at rest gives up its VM, ms since 1970; undefined where it cannot, or has none */
export function idleAt({ state, hot, saver }: SessionContext): number | undefined {
  if (hot === undefined || state.tier !== 'warm' || !saver.hasSave || !isStored(state.saves)) return undefined;
  const { lastActivityMs, settings, sleepAsked } = state.state;
  return sleepAsked ? 0 : lastActivityMs + settings.tiers.idleMs;
}

/** @returns when something is to be done with a session at rest by itself, ms since 1970 */
export function restEndsAt(ctx: SessionContext): number {
  return Math.min(expiryOf(ctx.state.state), ...[idleAt(ctx), ctx.saver.saveAgainAt].filter((at) => at !== undefined));
}

/** Gives up the VM of a session that has been idle for long: its workspace is in the store. */
export async function evict(ctx: SessionContext): Promise<void> {
  const cause: Cause = ctx.state.state.sleepAsked ? { code: 'SLEEP_ASKED' } : { code: 'IDLE' };
  ctx.state.enter('evicting', cause);
  await release(ctx, cause);
  ctx.state.forgetVm();
  ctx.state.enter('cold', cause);
}
