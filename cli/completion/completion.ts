/** Completion in shells: the scripts are tabtab's, the words come from the program itself. */
import { getCompletionScript, getShellFromEnv, log, parseEnv, type SupportedShell } from '@pnpm/tabtab';
import type { Command } from 'commander';
import { inheritedEnvironment } from '../../config/environment.ts';
import { candidatesAt } from './candidates.ts';

const NAME = 'kiln';
/** With this line the script knows that the shell must offer files. */
const FILES = '__tabtab_complete_files__';

/** tabtab's own for fish evaluates what was typed: a Tab after `$(…)` would run it. Fish passes words unchanged. */
const FISH_SCRIPT = `function __kiln_completion
  set -l before (commandline -opc)
  set -l current (commandline -ct)
  set -l found (SHELL=fish COMP_CWORD=(count $before) ${NAME} completion-server -- $before "$current" 2>/dev/null)
  if test "$found" = "${FILES}"
    __fish_complete_path "$current"
  else
    string join \\n -- $found
  end
end
complete -c ${NAME} -f -a '(__kiln_completion)'
`;

/** @returns a script to be read by a shell; it calls `kiln completion-server` at each Tab */
export async function completionScript(shell: SupportedShell): Promise<string> {
  return shell === 'fish' ? FISH_SCRIPT : getCompletionScript({ name: NAME, completer: NAME, shell });
}

/**
 * Answers a script.
 * @param words of the whole command line, with the name of the program
 */
export async function answerShell(
  program: Command,
  words: readonly string[],
  say: (line: string) => void,
): Promise<void> {
  const env = inheritedEnvironment();
  const shell = getShellFromEnv(env);
  const place = parseEnv(env).words;
  const found = candidatesAt(program, words.slice(1, place), words[place] ?? '');
  if (found !== 'files') log([...found], shell, say);
  // Bash offers files by itself where nothing else matches.
  else if (shell !== 'bash') say(FILES);
}
