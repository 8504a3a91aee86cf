/** Guest images. The builder itself is TypeScript, run by the pinned Node. */
import { join } from 'node:path';
import { guestAgent } from './guest-agent.mjs';
import { cacheDirectory, pinnedNode, projectRoot } from './places.mjs';
import { asRoot, mustRun, run } from './run.mjs';

async function builderCommand(name, extra) {
  const agent = await guestAgent.ready();
  if (agent === undefined) return undefined;
  return [
    pinnedNode(),
    join(projectRoot, 'rootfs', 'image', 'build-entry.ts'),
    ...['--recipe', join(projectRoot, 'guest', 'image', name, 'recipe.json')],
    ...['--images', join(cacheDirectory(), 'images')],
    ...['--agent', agent.path, '--agent-key', agent.key],
    ...['--node', pinnedNode()],
    ...extra,
  ];
}

const result = (stdout) => {
  const { digest, directory } = JSON.parse(stdout);
  return { text: digest.slice(0, 'sha256:'.length + 12), digest, directory };
};

/** @returns the step that makes the image of this name. */
const guestImage = (name) => ({
  name: `guest image ${name}`,

  async ready() {
    const command = await builderCommand(name, ['--check']);
    if (command === undefined) return undefined;
    const { code, stdout } = await run(command);
    return code === 0 ? result(stdout) : undefined;
  },

  async make(progress) {
    const prefix = await asRoot('sudo npm run setup');
    progress.doing('building, about 1 min the first time');
    const command = await builderCommand(name, prefix.length > 0 ? ['--sudo'] : []);
    const stdout = await mustRun(command, { onLine: (line) => progress.doing(line), interactive: prefix.length > 0 });
    return result(stdout);
  },
});

export const nodeImage = guestImage('node');
export const pythonImage = guestImage('python');
