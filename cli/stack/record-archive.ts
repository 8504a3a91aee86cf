import { defined } from '../../domain/defined.ts';
import { type CliContext, EXIT } from '../cli-context.ts';
import type { CommandOutput } from '../command-output.ts';

/** `kiln archive record`. @returns exit code: 1 where something could not be recorded or swept yet */
export async function recordArchive(
  context: CliContext,
  output: CommandOutput,
  waitMs: number | undefined,
): Promise<number> {
  const body = defined({ waitMs });
  const { report } = await (await context.connect()).recordArchive({ body });
  output.answer(report === undefined ? { running: true } : report, () => {
    if (report === undefined) return ['It goes on; see the workflow maintenance/on-demand in the Temporal Web UI.'];
    const { recorded, hosts, problems } = report;
    return [
      `${recorded.workflows} workloads archived now, of ${recorded.seen} executions looked at${recorded.more ? '; more with the next run' : ''}.`,
      ...hosts.map(({ hostId, swept, freed, held }) =>
        swept
          ? `${hostId}: ${freed} workloads freed since their end, ${held} still held`
          : `${hostId}: did not answer, ${held} workloads not looked at`,
      ),
      ...problems,
    ];
  });
  return report !== undefined && report.problems.length > 0 ? EXIT.failed : EXIT.ok;
}
