/** The agent that is PID 1 of every guest. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { agentKey } from '../agent-key.mjs';
import { binaryPath, goBuild } from './go-build.mjs';
import { projectRoot } from './places.mjs';

const state = () => {
  const key = agentKey(projectRoot);
  return { key, path: binaryPath('kiln-agent', key) };
};

export const guestAgent = {
  name: 'guest agent',

  async ready() {
    const { key, path } = state();
    return existsSync(path) ? { text: `built (${key})`, key, path } : undefined;
  },

  async make(progress) {
    const { key, path } = state();
    progress.doing('building, about 20 s');
    await goBuild({
      directory: join(projectRoot, 'guest', 'agent'),
      packagePath: '.',
      flags: ['-ldflags', `-s -w -X main.version=${key}`],
      output: path,
    });
    return { text: `built (${key})`, key, path };
  },
};
