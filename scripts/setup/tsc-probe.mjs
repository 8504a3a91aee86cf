/** The program that measures the rate of this machine's time stamp counter: guests in software emulation need it. */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { binaryPath, goBuild } from './go-build.mjs';
import { projectRoot } from './places.mjs';

const directory = join(projectRoot, 'vmm', 'qemu', 'tsc-probe');

const state = () => {
  const hash = createHash('sha256');
  for (const name of readdirSync(directory).sort()) {
    hash
      .update(`${name}\0`)
      .update(readFileSync(join(directory, name)))
      .update('\0');
  }
  const key = hash.digest('hex').slice(0, 12);
  return { key, path: binaryPath('kiln-tsc-probe', key) };
};

export const tscProbe = {
  name: 'clock rate probe',

  async ready() {
    const { key, path } = state();
    return existsSync(path) ? { text: `built (${key})`, path } : undefined;
  },

  async make(progress) {
    const { key, path } = state();
    progress.doing('building, about 5 s');
    await goBuild({ directory, packagePath: '.', flags: ['-ldflags', '-s -w'], output: path });
    return { text: `built (${key})`, path };
  },
};
