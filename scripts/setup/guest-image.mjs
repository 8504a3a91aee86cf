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
    join(projectRoot, 'rootfs', 'image', 'build', 'build-entry.ts'),
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

/** An ordinary user becomes root of a user namespace where the machine allows it, without any question. */
async function rootFlags() {
  if (process.getuid?.() === 0) return [];
  if ((await run(['unshare', '--map-root-user', '--map-auto', '--', 'true'])).code === 0) return ['--user-namespace'];
  const fix =
    'sudo apt-get install uidmap && sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER';
  await asRoot(`sudo npm run setup, or so that no root is needed:  ${fix}`);
  return ['--sudo'];
}

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
    const flags = await rootFlags();
    progress.doing('building, about 1 min the first time');
    const command = await builderCommand(name, flags);
    const interactive = flags.includes('--sudo');
    const stdout = await mustRun(command, { onLine: (line) => progress.doing(line), interactive });
    return result(stdout);
  },
});

export const nodeImage = guestImage('node');
export const pythonImage = guestImage('python');
