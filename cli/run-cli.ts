import { CommanderError } from 'commander';
import { type CliContext, EXIT } from './cli-context.ts';
import { reportOf, reportText } from './error-report.ts';
import { kilnProgram } from './program.ts';

/**
 * Runs one command line.
 * @param args without the names of Node and the program
 */
export async function runCli(args: readonly string[], context: CliContext): Promise<void> {
  try {
    await kilnProgram(context).parseAsync([...args], { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) {
      // Commander has already written its message; requested help has exit code 0.
      context.exit(error.exitCode === 0 ? EXIT.ok : EXIT.usage);
      return;
    }
    const report = reportOf(error);
    context.stderr.write(reportText(report, args.includes('--json')));
    context.exit(report.exitCode);
  }
}
