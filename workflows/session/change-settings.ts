import type { SessionSettings } from '../../domain/session/session-record.ts';
import type { SessionContext } from './session-context.ts';
import { verdictOn } from './session-verdict.ts';

/** Takes settings that are on record. What a run that goes on may reach changes at once, too. */
export function changeSettings(ctx: SessionContext, settings: SessionSettings): void {
  const { state, hot } = ctx;
  const fields = state.changeSettings(settings);
  // The next run says by itself what it may reach.
  if (!fields.includes('egress') || state.runs.running === undefined || hot === undefined) return;
  const call = { ...ctx.owner.call(hot.placed.epoch), vmId: hot.vmId, egress: settings.egress };
  void ctx.calls
    .onHost(hot.placed, () => hot.placed.host.setEgress(call))
    .catch((error: unknown) => {
      const verdict = verdictOn(error);
      ctx.progress.note(`egress: ${verdict.kind === 'cancelled' ? 'cancelled' : verdict.message}`);
    });
}
