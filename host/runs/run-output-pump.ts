import type { ExecHandle } from '../../ports/guest-agent.ts';
import type { RunOutput } from './run-output.ts';

/**
 * Takes the output of one attached run until it ends: safe on disk first, then acknowledged to the guest.
 * @param handle attached with `manualAck` from `output.end`
 * @throws AGENT_LOST where the channel is lost: attach again from `output.end` and go on
 */
export async function pumpRunOutput(
  handle: Pick<ExecHandle, 'output' | 'acknowledge'>,
  output: RunOutput,
  { maxUnsafeBytes, onTaken }: { readonly maxUnsafeBytes: number; readonly onTaken?: () => void },
): Promise<void> {
  let syncing: Promise<void> | undefined;
  let failure: unknown;
  const syncSoon = () => {
    syncing ??= output
      .sync()
      .then((safe) => handle.acknowledge(safe))
      .catch((error: unknown) => {
        failure = error;
      })
      .finally(() => {
        syncing = undefined;
        // What came meanwhile may be the last for a long time.
        if (failure === undefined && output.safeEnd < output.end) syncSoon();
      });
  };
  try {
    for await (const piece of handle.output) {
      await output.take(piece);
      onTaken?.();
      syncSoon();
      // A disk that is slower than the guest must not fill the memory.
      while (syncing !== undefined && output.end - output.safeEnd > maxUnsafeBytes) await syncing;
      if (failure !== undefined) throw failure;
    }
  } finally {
    while (syncing !== undefined) await syncing;
  }
  if (failure !== undefined) throw failure;
}
