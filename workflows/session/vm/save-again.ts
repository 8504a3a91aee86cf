import { codedError } from '../../activity-verdict.ts';
import type { SessionContext } from '../session-context.ts';
import { resume } from './warm-and-wake.ts';

/** Lets the VM of a session at rest go on, so that the main loop saves what could not be saved. */
export async function wakeToSave(ctx: SessionContext): Promise<void> {
  const { hot, saver, state } = ctx;
  if (hot === undefined) return;
  try {
    await ctx.work.run(() => resume(ctx, hot, { code: 'SAVE_AGAIN' }));
  } catch (error) {
    // A session that leaves does so by itself.
    if (state.leaving !== undefined) return;
    const { code, message } = codedError(error);
    ctx.progress.note(`the VM could not be woken for a save: ${message}`);
    saver.cannotWake(code);
  }
}
