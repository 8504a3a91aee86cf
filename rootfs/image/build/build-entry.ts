/**
 * Builds a guest image as a program of its own, for set-up.
 * `build-entry.ts --recipe FILE --images DIR --agent FILE --agent-key KEY --node FILE [--sudo | --user-namespace] [--check]`
 * With `--check` nothing is built; exit code 3 says that it would have to be.
 * Steps go to stderr, one a line; the last line of stdout is `{"digest","directory","built"}`.
 */
import { parseArgs } from 'node:util';
import { KilnError, messageOf } from '../../../domain/failures.ts';
import { mustRun } from '../../../linux/run-command.ts';
import { IN_USER_NAMESPACE } from './as-root.ts';
import { type BuildImageRequest, buildImage, findBuiltImage } from './build-image.ts';
import { readRecipe } from './recipe.ts';

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      recipe: { type: 'string' },
      images: { type: 'string' },
      agent: { type: 'string' },
      'agent-key': { type: 'string' },
      node: { type: 'string' },
      check: { type: 'boolean', default: false },
      sudo: { type: 'boolean', default: false },
      'user-namespace': { type: 'boolean', default: false },
    },
  });
  const nodeBinary = required('node', values.node);
  const request: BuildImageRequest = {
    recipe: await readRecipe(required('recipe', values.recipe)),
    imagesDir: required('images', values.images),
    agentPath: required('agent', values.agent),
    agentKey: required('agent-key', values['agent-key']),
    nodeBinary,
    nodeVersion: (await mustRun([nodeBinary, '--version'])).trim().replace(/^v/, ''),
    asRoot: values.sudo ? ['sudo'] : values['user-namespace'] ? IN_USER_NAMESPACE : [],
    onStep: (step) => process.stderr.write(`${step}\n`),
  };
  const image = values.check ? await findBuiltImage(request) : await buildImage(request);
  if (image === undefined) {
    process.exitCode = 3;
    return;
  }
  const { digest, directory, built } = image;
  process.stdout.write(`${JSON.stringify({ digest, directory, built })}\n`);
}

function required(name: string, value: string | undefined): string {
  if (value === undefined) throw new KilnError('CONFIG_INVALID', `--${name} is missing`);
  return value;
}

try {
  await main();
} catch (error) {
  process.stderr.write(`${messageOf(error)}\n`);
  process.exitCode = 1;
}
