import { execFile } from 'node:child_process';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Command } from 'commander';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { candidatesAt } from '../../../cli/completion/candidates.ts';
import { CHECKOUT, CLI_ENTRY, packageVersion } from '../../../config/checkout.ts';
import { inheritedEnvironment } from '../../../config/environment.ts';
import { kiln } from '../../support/gateway/cli-fixtures.ts';

const run = promisify(execFile);

describe('kiln --version', () => {
  it.each([['--version'], ['-V']])('%s says which it is', async (option) => {
    expect(await kiln([option])).toEqual({ stdout: `${packageVersion()}\n`, stderr: '', exitCode: 0 });
  });
});

describe('candidates', () => {
  const program = new Command('kiln').option('-v, --verbose', 'say more');
  const workload = program.command('workload').alias('w').description('services');
  workload
    .command('list')
    .description('all of them')
    .option('--stage <stage>', 'of a stage')
    .option('--file <file>', 'from a file')
    .option('--json', 'as JSON');
  workload.command('get <id>');
  program.command('deploy <dir>');
  program.command('completion').addArgument(program.createArgument('<shell>').choices(['bash', 'zsh']));
  program.command('secret', { hidden: true });
  const names = (before: string[], current = '') => {
    const found = candidatesAt(program, before, current);
    return found === 'files' ? found : found.map(({ name }) => name);
  };

  it.each<[string[], string, string[] | 'files']>([
    [[], '', ['workload', 'deploy', 'completion', 'help']],
    [[], 'wo', ['workload']],
    [[], '--v', ['--verbose']],
    [['workload'], '', ['list', 'get', 'help']],
    [['w'], 'l', ['list']],
    [['--verbose', 'workload'], 'g', ['get']],
    [['workload', 'list'], '--', ['--stage', '--file', '--json', '--help']],
    [['workload', 'list', '--json'], '--s', ['--stage']],
    [['workload', 'list', '--stage', 'get'], '--j', ['--json']],
    [['workload', 'list', '--stage'], '', []],
    [['workload', 'list', '--file'], 'a', 'files'],
    [['deploy'], '', 'files'],
    [['deploy', 'a'], '', []],
    [['completion'], '', ['bash', 'zsh']],
    [['workload', 'get'], '', []],
    [['nothing'], '', []],
  ])('after %j with %j', (before, current, expected) => {
    expect(names(before, current)).toEqual(expected);
  });

  it('come with what they do', () => {
    expect(candidatesAt(program, ['workload'], 'list')).toEqual([{ name: 'list', description: 'all of them' }]);
  });
});

describe('kiln completion', () => {
  it.each(['bash', 'zsh', 'fish'])('prints a script for %s', async (shell) => {
    const { stdout, exitCode } = await kiln(['completion', shell]);
    expect([exitCode, stdout]).toEqual([0, expect.stringContaining('kiln completion-server --')]);
  });

  it('refuses a shell that it does not know', async () => {
    expect(await kiln(['completion', 'tcsh'])).toMatchObject({ exitCode: 2, stderr: expect.stringContaining('bash') });
  });
});

describe('in a real bash', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'kiln-completion-'));
    await writeFile(join(folder, 'kiln'), `#!/bin/sh\nexec '${process.execPath}' '${CLI_ENTRY}' "$@"\n`);
    await chmod(join(folder, 'kiln'), 0o755);
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  /** @returns what bash offers to complete the last word of the line */
  const offered = async (...words: string[]): Promise<string[]> => {
    const script = [
      'eval "$(kiln completion bash)"',
      `COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=\${#COMP_LINE}`,
      // Finds the function that bash itself would call for this command.
      'read -r _ _ _ _ name _ <<< "$(complete -p kiln)"',
      `"$name"; printf "%s\\n" "\${COMPREPLY[@]}"`,
    ];
    const { PATH = '', ...env } = inheritedEnvironment();
    const { stdout } = await run('bash', ['--norc', '-c', script.join('\n'), 'bash', ...words], {
      cwd: CHECKOUT,
      env: { ...env, PATH: `${folder}:${PATH}` },
    });
    return stdout.trim().split('\n');
  };

  it('commands, options and nothing for what only the user knows', async () => {
    expect(await offered('kiln', 'gat')).toEqual(['gateway']);
    expect(await offered('kiln', 'gateway', '')).toEqual(['status', 'restart', 'run', 'help']);
    expect(await offered('kiln', 'workload', 'list', '--st')).toEqual(['--stage']);
    expect(await offered('kiln', 'workload', 'get', '')).toEqual(['']);
    expect(await offered('kiln', 'session', 'list', '--tier', 'wa')).toEqual(['warm']);
    expect(await offered('kiln', 'session', 'run', 'a', '--if-ended', '')).toEqual(['restart']);
  });

  it('runs nothing of what was typed', async () => {
    const marker = join(folder, 'was-run');
    expect(await offered('kiln', 'deploy', `$(touch ${marker})`, '--no-')).toEqual(['--no-wait']);
    await expect(run('test', ['-e', marker])).rejects.toThrow();
  });
});
