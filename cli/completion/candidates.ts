/** What is allowed at a place of a command line, as the program itself defines it. */
import type { Command, Option } from 'commander';

export interface Candidate {
  readonly name: string;
  readonly description: string;
}

/** `files`: a path is expected there; the shell completes it. */
export type Candidates = readonly Candidate[] | 'files';

/**
 * @param before the words between the name of the program and the place, as they were typed
 * @param current the text typed there so far; only candidates that begin with it are returned
 */
export function candidatesAt(program: Command, before: readonly string[], current: string): Candidates {
  const { command, open, operands } = placeOf(program, before);
  const found = open === undefined ? startsAt(command, operands, current) : valuesOf(open);
  return found === 'files' ? found : found.filter(({ name }) => name.startsWith(current));
}

interface Place {
  readonly command: Command;
  /** The option whose value comes next. */
  readonly open?: Option;
  /** Words of the command that are not options. */
  readonly operands: number;
}

function placeOf(program: Command, before: readonly string[]): Place {
  let command = program;
  let operands = 0;
  for (let index = 0; index < before.length; index++) {
    const word = before[index] ?? '';
    if (word.startsWith('-')) {
      const option = optionsOf(command).find(({ short, long }) => short === word || long === word);
      if (option === undefined || !option.required) continue;
      index += 1;
      if (index === before.length) return { command, open: option, operands };
      continue;
    }
    const below = command.commands.find((each) => each.name() === word || each.aliases().includes(word));
    if (below === undefined) operands += 1;
    else command = below;
  }
  return { command, operands };
}

function startsAt(command: Command, operands: number, current: string): Candidates {
  if (current.startsWith('-')) {
    return optionsOf(command).map(({ long, short, description }) => ({ name: long ?? short ?? '', description }));
  }
  if (operands === 0 && command.commands.length > 0) {
    const visible = command.createHelp().visibleCommands(command);
    return visible.map((each) => ({ name: each.name(), description: each.description() }));
  }
  const argument = command.registeredArguments[operands];
  if (argument === undefined) return [];
  return argument.argChoices === undefined ? byPlaceholder(argument.name()) : described(argument.argChoices);
}

function optionsOf(command: Command): readonly Option[] {
  return command.createHelp().visibleOptions(command);
}

function valuesOf({ argChoices, flags }: Option): Candidates {
  return argChoices === undefined ? byPlaceholder(/<(\w+)>/.exec(flags)?.[1] ?? '') : described(argChoices);
}

/** The usage of a command names what it takes: `--env-file <file>`. */
function byPlaceholder(name: string): Candidates {
  return /^(file|dir|path)$/i.test(name) ? 'files' : [];
}

function described(words: readonly string[]): Candidate[] {
  return words.map((name) => ({ name, description: '' }));
}
