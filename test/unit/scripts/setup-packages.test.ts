import { execFile } from 'node:child_process';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CHECKOUT } from '../../../config/checkout.ts';
import { inheritedEnvironment } from '../../../config/environment.ts';

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'kiln-packages-'));
});
afterEach(() => rm(root, { recursive: true }));

/** A machine whose dpkg was interrupted: apt refuses to install until dpkg has been continued, if that works. */
async function interruptedMachine({ canGoOn }: { canGoOn: boolean }): Promise<void> {
  const programs = {
    sudo: 'while [ "$1" = -n ]; do shift; done; exec "$@"',
    'dpkg-query': `cat ${root}/installed 2>/dev/null`,
    dpkg: `echo "dpkg $* $DEBIAN_FRONTEND" >>${root}/log; ${canGoOn ? `touch ${root}/configured` : 'exit 1'}`,
    'apt-get': `case "$*" in *update*) exit 0;; esac
      echo install >>${root}/log
      [ -e ${root}/configured ] || { echo 'E: dpkg was interrupted' >&2; exit 100; }
      for name; do echo "$name installed"; done >${root}/installed`,
  };
  for (const [name, script] of Object.entries(programs)) {
    await writeFile(join(root, name), `#!/bin/sh\n${script}\n`);
    await chmod(join(root, name), 0o755);
  }
}

/** Runs the step in a process of its own, as set-up does. @returns its result or error message */
async function installPackages(): Promise<string> {
  const file = JSON.stringify(join(CHECKOUT, 'scripts', 'setup', 'debian-packages.mjs'));
  const script = `
    import { debianPackages } from ${file};
    const made = debianPackages.make({ doing: () => undefined });
    process.stdout.write(await made.then(({ text }) => text, (error) => error.message));`;
  const { PATH = '', ...others } = inheritedEnvironment();
  const env = { ...others, PATH: `${root}:${PATH}` };
  return (await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], { env })).stdout;
}

const log = async () => (await readFile(join(root, 'log'), 'utf8')).trim().split('\n');

describe('the Debian packages of a set-up', () => {
  it('are installed after what an interrupted install has left half configured', async () => {
    await interruptedMachine({ canGoOn: true });
    expect(await installPackages()).toMatch(/^installed qemu-system-x86/);
    expect(await log()).toEqual(['dpkg --configure -a noninteractive', 'install']);
  });

  it('that cannot be installed are told with the whole way out', async () => {
    await interruptedMachine({ canGoOn: false });
    const told = await installPackages();
    expect(told).toContain('dpkg was interrupted');
    expect(told).toContain("sudo sh -c 'dpkg --configure -a && apt-get update && apt-get install");
    expect(await log()).toEqual(['dpkg --configure -a noninteractive', 'install']);
  });
});
