import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { CHECKOUT } from '../../config/checkout.ts';
import type { StackAddress } from '../../config/cli-config.ts';
import { inheritedEnvironment } from '../../config/environment.ts';
import { readSetupRecord, type SetupRecord } from '../../config/setup-record.ts';
import { isKilnError } from '../../domain/failures.ts';
import { IMAGE_NAME_PATTERN } from '../../domain/names.ts';
import type { BuiltImage } from '../../rootfs/image/build/build-image.ts';
import { type CliContext, EXIT, UsageError } from '../cli-context.ts';
import type { CommandOutput } from '../command-output.ts';
import { stackIdentity } from '../dev/stack-identity.ts';
import { fieldLines } from '../terminal/text-columns.ts';

export interface BuildImageOptions {
  readonly name: string;
  /** Path of the recipe; absent = the one of that name in the checkout. */
  readonly recipe?: string;
}

/**
 * `kiln image build`: finds or builds an image, and publishes it to the local stack where one runs.
 * @returns exit code
 * @throws CONFIG_INVALID where the checkout is not set up or the recipe is wrong; what building and publishing throw
 */
export async function buildAndPublish(
  context: CliContext,
  output: CommandOutput,
  options: BuildImageOptions,
): Promise<number> {
  if (!IMAGE_NAME_PATTERN.test(options.name)) {
    throw new UsageError('The name of an image is 1 to 40 characters of a-z, 0-9 and -, not beginning with -.');
  }
  const setup = readSetupRecord();
  const image = await build(setup, options, output);
  const { digest, directory, built } = image;
  const { name } = image.manifest;
  const published = await publish(context, output, { ...setup, image: { name, digest, directory } });
  output.answer({ name, digest, directory, built, published }, () =>
    fieldLines({
      image: name,
      digest,
      directory,
      built: built ? 'now' : 'before, from the same parts',
      published: published ? `as ${name}:latest` : 'no',
    }),
  );
  return EXIT.ok;
}

async function build(setup: SetupRecord, options: BuildImageOptions, output: CommandOutput): Promise<BuiltImage> {
  const { buildImage } = await import('../../rootfs/image/build/build-image.ts');
  const { readRecipe } = await import('../../rootfs/image/build/recipe.ts');
  const { findAsRoot } = await import('../../rootfs/image/build/as-root.ts');
  const path = options.recipe ?? join(CHECKOUT, 'guest', 'image', options.name, 'recipe.json');
  if (!existsSync(path)) throw new UsageError(`There is no recipe ${path}. ${await knownRecipes()}`);
  const recipe = await readRecipe(path);
  if (recipe.name !== options.name) throw new UsageError(`${path} is the recipe of an image named ${recipe.name}.`);
  return await buildImage({
    recipe,
    imagesDir: join(setup.cacheDir, 'images'),
    agentPath: setup.agent.path,
    agentKey: setup.agent.key,
    nodeBinary: setup.nodePath,
    nodeVersion: process.versions.node,
    asRoot: await findAsRoot(),
    onStep: output.note,
  });
}

async function knownRecipes(): Promise<string> {
  const names = await readdir(join(CHECKOUT, 'guest', 'image')).catch(() => []);
  return `Recipes of this checkout: ${names.sort().join(', ')}.`;
}

/** @returns whether there was a stack to publish to */
async function publish(context: CliContext, output: CommandOutput, setup: SetupRecord): Promise<boolean> {
  const stack = await localStack(context);
  if (stack === undefined) {
    output.note('Not published: no stack runs here. Start one with `kiln dev` and build again.');
    return false;
  }
  const { home, stack: running } = stack;
  const identity = await stackIdentity(home);
  const inherited = inheritedEnvironment();
  const { prepareStore } = await import('../../workers/prepare-store.ts');
  await prepareStore(
    {
      ...inherited,
      KILN_S3_ENDPOINT: running.s3.endpoint,
      KILN_S3_BUCKET: running.s3.bucket,
      KILN_S3_ACCESS_KEY: inherited['KILN_S3_ACCESS_KEY'] ?? identity.s3AccessKey,
      KILN_S3_SECRET_KEY: inherited['KILN_S3_SECRET_KEY'] ?? identity.s3SecretKey,
    },
    setup,
    output.note,
  );
  return true;
}

async function localStack(context: CliContext): Promise<StackAddress['local']> {
  try {
    return (await context.findStack()).local;
  } catch (error) {
    if (isKilnError(error, 'NOT_FOUND')) return undefined;
    throw error;
  }
}
