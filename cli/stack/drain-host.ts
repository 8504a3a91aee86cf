import { type CliContext, EXIT } from '../cli-context.ts';
import type { CommandOutput } from '../command-output.ts';

/** `kiln host drain` and `kiln host undrain`. Running workloads are not touched; sessions sleep. @returns exit code */
export async function drainHost(
  context: CliContext,
  output: CommandOutput,
  hostId: string,
  draining: boolean,
): Promise<number> {
  const drain = await (await context.connect()).drainHost({ params: { hostId }, body: { draining } });
  output.answer(drain, () => [
    draining
      ? `${hostId} takes no new work; workloads there stay, sessions give up their VMs after their runs. See with: kiln workload list --stage running, kiln session list`
      : `${hostId} takes new workloads again.`,
  ]);
  return EXIT.ok;
}
