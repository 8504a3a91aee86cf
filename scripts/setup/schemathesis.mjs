/** Schemathesis, which tries the gateway against its own OpenAPI document, in a Python environment of its own. Tests only. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cacheDirectory, projectRoot } from './places.mjs';
import { mustRun, SetupError } from './run.mjs';

/** Every package with its version, the dependencies' too. */
const REQUIREMENTS = join(projectRoot, 'scripts', 'setup', 'schemathesis.txt');

const state = () => {
  const key = createHash('sha256').update(readFileSync(REQUIREMENTS)).digest('hex').slice(0, 12);
  const directory = join(cacheDirectory(), 'python', `schemathesis-${key}`);
  return { directory, path: join(directory, 'bin', 'schemathesis'), mark: join(directory, '.complete') };
};

export const schemathesis = {
  name: 'schemathesis',

  async ready() {
    const { directory, path, mark } = state();
    // Its Python is a link to the machine's, which may have become another one.
    const isWhole = existsSync(mark) && existsSync(join(directory, 'bin', 'python3'));
    return isWhole ? { text: 'installed', path } : undefined;
  },

  async make(progress) {
    const { directory, path, mark } = state();
    progress.doing('installing from the Python index, about 1 min');
    // Scripts of an environment name its folder, so it is made where it stays; what was interrupted begins anew.
    rmSync(directory, { recursive: true, force: true });
    const fix = 'apt-get install -y python3-venv';
    await mustRun(['python3', '-m', 'venv', directory], { fix });
    const install = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--no-deps', '-r', REQUIREMENTS];
    await mustRun([join(directory, 'bin', 'python3'), ...install]);
    if (!existsSync(path)) throw new SetupError(`pip installed no ${path}`);
    writeFileSync(mark, '');
    return { text: 'installed', path };
  },
};
