import { Argument, type Command } from 'commander';
import type { CliContext } from '../cli-context.ts';

const SHELLS = ['bash', 'zsh', 'fish'] as const;

/** Registers `kiln completion SHELL`, and what its script asks at each Tab. */
export function registerCompletionCommands(program: Command, context: CliContext): void {
  program
    .command('completion')
    .description('print a script that completes commands and options in a shell')
    .addArgument(new Argument('<shell>').choices(SHELLS))
    .action(async (shell: (typeof SHELLS)[number]) => {
      const { completionScript } = await import('./completion.ts');
      context.begin();
      context.stdout.write(await completionScript(shell));
    });
  program
    .command('completion-server [words...]', { hidden: true })
    .description('answers the script of a shell')
    .allowUnknownOption()
    .action(async (words: readonly string[]) => {
      const { answerShell } = await import('./completion.ts');
      await answerShell(program, words, (line) => void context.stdout.write(`${line}\n`));
    });
}
