import { join } from 'node:path';
import { readEnvironment, stackPaths } from '../../config/environment.ts';
import type { ImageView } from '../../contracts/api/image.ts';
import { defined } from '../../domain/defined.ts';
import { isKilnError, KilnError } from '../../domain/failures.ts';
import type { ImageReference } from '../../rootfs/image/image-catalog.ts';
import type { ImageManifest } from '../../rootfs/image/manifest.ts';
import { type CliContext, EXIT } from '../cli-context.ts';
import type { CommandOutput } from '../command-output.ts';
import { fieldLines, textColumns } from '../terminal/text-columns.ts';

/** `kiln image list`: with --json one document an image. @returns exit code */
export async function listImages(context: CliContext, output: CommandOutput): Promise<number> {
  const { items: images } = await (await context.connect()).listImages();
  if (output.json) for (const image of images) output.answer(image, () => []);
  else output.answer(images, () => imageTable(images));
  return EXIT.ok;
}

function imageTable(images: readonly ImageView[]): string[] {
  return textColumns(
    ['NAME', 'TAG', 'DIGEST', 'PUBLISHED'],
    images.map(({ name, tag, digest, publishedAt }) => [name, tag, digest, publishedAt]),
  );
}

/** The image that a reference names, and where that was found. */
interface FoundImage {
  readonly name: string;
  readonly tag?: string;
  readonly digest: string;
  /** ISO 8601; absent where the stack has not published it, or was not asked. */
  readonly publishedAt?: string;
}

/**
 * `kiln image inspect`: the tag of the running stack, else that of this machine's builds; the manifest is this machine's.
 * @returns exit code
 * @throws SPEC_INVALID where the text is not a reference, IMAGE_MISSING, IMAGE_CORRUPT
 */
export async function inspectImage(context: CliContext, output: CommandOutput, text: string): Promise<number> {
  const { parseImageReference } = await import('../../rootfs/image/image-catalog.ts');
  const { imageDirectory, readManifest } = await import('../../rootfs/image/local-images.ts');
  const imagesDir = join(stackPaths(readEnvironment(), process.getuid?.() ?? 0).cacheDir, 'images');
  const found = await resolveImage(context, imagesDir, parseImageReference(text));
  const manifest = await readManifest(imagesDir, found.digest);
  if (manifest === undefined && found.publishedAt === undefined) throw missing(text);
  const local = manifest === undefined ? {} : { directory: imageDirectory(imagesDir, found.digest), manifest };
  output.answer({ ...found, ...local }, () => [
    ...fieldLines({ ...found, ...defined({ directory: local.directory }) }),
    ...(manifest === undefined ? ['its files are not in the cache of this machine'] : manifestLines(manifest)),
  ]);
  return EXIT.ok;
}

async function resolveImage(context: CliContext, imagesDir: string, reference: ImageReference): Promise<FoundImage> {
  const published = await publishedImages(context);
  if ('digest' in reference) {
    const same = published?.find(({ digest }) => digest === reference.digest);
    return { ...reference, ...(same === undefined ? {} : { publishedAt: same.publishedAt }) };
  }
  const { name, tag } = reference;
  if (published !== undefined) {
    const image = published.find((each) => each.name === name && each.tag === tag);
    if (image === undefined) throw missing(`${name}:${tag}`);
    return image;
  }
  const { readLocalTag } = await import('../../rootfs/image/local-images.ts');
  const local = await readLocalTag(imagesDir, name, tag);
  if (local === undefined) throw missing(`${name}:${tag}`);
  return { name, tag, digest: local.digest };
}

/** @returns undefined where no stack runs. */
async function publishedImages(context: CliContext): Promise<readonly ImageView[] | undefined> {
  try {
    await context.findStack();
  } catch (error) {
    if (isKilnError(error, 'NOT_FOUND')) return undefined;
    throw error;
  }
  return (await (await context.connect()).listImages()).items;
}

function missing(reference: string): KilnError {
  return new KilnError(
    'IMAGE_MISSING',
    `There is no image ${reference}. See \`kiln image list\`, or build it with \`kiln image build\`.`,
  );
}

function manifestLines(manifest: ImageManifest): string[] {
  const { kernelRelease, nodeVersion, npmVersion, pythonVersion, agentKey, arch } = manifest;
  const languages = { node: nodeVersion, npm: npmVersion, python: pythonVersion };
  return [
    ...fieldLines({ arch, kernel: kernelRelease, ...languages, agent: agentKey }),
    '',
    ...textColumns(
      ['FILE', 'MIB', 'SHA256'],
      manifest.files.map(({ name, bytes, sha256 }) => [name, (bytes / 2 ** 20).toFixed(1), sha256]),
    ),
  ];
}
