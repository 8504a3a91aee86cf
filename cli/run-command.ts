import type { Command } from 'commander';
import type { CliContext } from './cli-context.ts';
import { type CommandOutput, commandOutput } from './command-output.ts';
import { reportOf, reportText } from './error-report.ts';

/** Options that every command of ours has. */
export interface JsonOption {
  readonly json?: boolean;
}

/** Adds what every command has. */
export function withJson(command: Command): Command {
  return command.option('--json', 'answer as JSON, one document a line');
}

/** Runs a command: its errors go to stderr, its exit code to the context. */
export async function run(
  context: CliContext,
  options: JsonOption,
  action: (output: CommandOutput) => Promise<number>,
): Promise<void> {
  const json = options.json === true;
  context.begin();
  try {
    context.exit(await action(commandOutput(context, json)));
  } catch (error) {
    const report = reportOf(error);
    context.stderr.write(reportText(report, json));
    context.exit(report.exitCode);
  }
}
