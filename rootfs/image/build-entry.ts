/**
 * Builds a guest image as a program of its own, for set-up.
 * `build-entry.ts --recipe FILE --images DIR --agent FILE --agent-key KEY --node FILE [--sudo]`
 * Steps go to stderr, one a line; the last line of stdout is `{"digest","directory","built"}`.
 */
import { parseArgs } from 'node:util';
import { KilnError } from '../../domain/failures.ts';
import { mustRun } from '../run-command.ts';
import { buildImage } from './build-image.ts';
import { readRecipe } from './recipe.ts';

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      recipe: { type: 'string' },
      images: { type: 'string' },
      agent: { type: 'string' },
      'agent-key': { type: 'string' },
      node: { type: 'string' },
      sudo: { type: 'boolean', default: false },
    },
  });
  const nodeBinary = required('node', values.node);
  const { digest, directory, built } = await buildImage({
    recipe: await readRecipe(required('recipe', values.recipe)),
    imagesDir: required('images', values.images),
    agentPath: required('agent', values.agent),
    agentKey: required('agent-key', values['agent-key']),
    nodeBinary,
    nodeVersion: (await mustRun([nodeBinary, '--version'])).trim().replace(/^v/, ''),
    asRoot: values.sudo ? ['sudo'] : [],
    onStep: (step) => process.stderr.write(`${step}\n`),
  });
  process.stdout.write(`${JSON.stringify({ digest, directory, built })}\n`);
}

function required(name: string, value: string | undefined): string {
  if (value === undefined) throw new KilnError('CONFIG_INVALID', `--${name} is missing`);
  return value;
}

try {
  await main();
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
