import { link, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { defined } from '../../../domain/defined.ts';
import { writeStamps } from '../file-stamps.ts';
import { imageDirectory, readLocalTag, readManifest, writeLocalTag } from '../local-images.ts';
import { canonicalJson, IMAGE_FILES, type ImageManifest, MANIFEST_FILE, manifestDigest } from '../manifest.ts';
import type { AsRoot } from './as-root.ts';
import {
  buildInitrdStage,
  buildKernelStage,
  buildRootfsStage,
  buildWorkspaceStage,
  pythonVersionOf,
  recordedHash,
} from './build-stages.ts';
import { keyOf, type Recipe } from './recipe.ts';
import { stageDirectory } from './stage-directory.ts';

/** Raise it when this builder makes something different from the same recipe. */
const BUILDER_VERSION = 1;
export const LOCAL_TAG = 'latest';

export interface BuildImageRequest {
  readonly recipe: Recipe;
  /** `<cache>/images`: the image, its stages and its tag go there. */
  readonly imagesDir: string;
  /** Static binary of the guest agent, and the key of its sources. */
  readonly agentPath: string;
  readonly agentKey: string;
  /** The Node binary that goes into the image, and its version. */
  readonly nodeBinary: string;
  readonly nodeVersion: string;
  /** How privileged steps are run (`findAsRoot`). */
  readonly asRoot: AsRoot;
  /** Called before each step that takes time. */
  readonly onStep?: (step: string) => void;
}

export interface BuiltImage {
  readonly digest: string;
  readonly directory: string;
  readonly manifest: ImageManifest;
  /** False where it was found ready. */
  readonly built: boolean;
}

/**
 * Builds an image, or finds the one made from exactly the same parts. What takes long (kernel, root file system) is
 * cached by its own key, so a change of only the agent takes a second. May be interrupted anywhere and called again.
 * @throws UNSUPPORTED (a tool is missing), DISK_FULL, IMAGE_CORRUPT (a pinned part differs), INTERNAL
 */
export async function buildImage(request: BuildImageRequest): Promise<BuiltImage> {
  const found = await findBuiltImage(request);
  if (found !== undefined) return found;
  const { recipe, imagesDir } = request;
  const recipeKey = imageKey(request);
  const stages = await buildStages(request);
  const { digest, manifest } = await assemble(request, recipeKey, stages);
  await writeLocalTag(imagesDir, recipe.name, LOCAL_TAG, { digest, recipeKey });
  return { digest, directory: imageDirectory(imagesDir, digest), manifest, built: true };
}

/** @returns the image made from exactly these parts, or undefined where there is none yet. Takes milliseconds. */
export async function findBuiltImage(request: BuildImageRequest): Promise<BuiltImage | undefined> {
  const { recipe, imagesDir } = request;
  const known = await readLocalTag(imagesDir, recipe.name, LOCAL_TAG);
  if (known?.recipeKey !== imageKey(request)) return undefined;
  const manifest = await readManifest(imagesDir, known.digest);
  if (manifest === undefined) return undefined;
  return { digest: known.digest, directory: imageDirectory(imagesDir, known.digest), manifest, built: false };
}

/** @returns the key of everything an image is made from. */
export function imageKey(request: Pick<BuildImageRequest, 'recipe' | 'agentKey' | 'nodeVersion'>): string {
  return keyOf([BUILDER_VERSION, request.recipe, request.agentKey, ...nodeParts(request)]);
}

/** A new Node version does not change images without Node. */
function nodeParts({ recipe, nodeVersion }: Pick<BuildImageRequest, 'recipe' | 'nodeVersion'>): string[] {
  return recipe.npm === undefined ? [] : [nodeVersion];
}

interface Stages {
  readonly kernel: string;
  readonly rootfs: string;
  readonly workspace: string;
  readonly initrd: string;
}

async function buildStages(request: BuildImageRequest): Promise<Stages> {
  const { recipe, asRoot, onStep } = request;
  const { modules, kernelPackage, workspaceMib, ...rootfsPart } = recipe;
  const path = (stage: string, parts: readonly unknown[]): string =>
    join(request.imagesDir, 'stages', `${stage}-${keyOf([BUILDER_VERSION, ...parts])}`);
  const stages: Stages = {
    kernel: path('kernel', [kernelPackage, modules]),
    rootfs: path('rootfs', [rootfsPart, ...nodeParts(request)]),
    workspace: path('workspace', [workspaceMib, 'fixed size']),
    initrd: path('initrd', [kernelPackage, modules, request.agentKey]),
  };
  await stageDirectory(stages.kernel, async (directory) => {
    onStep?.('kernel');
    await buildKernelStage(recipe, directory, asRoot);
  });
  await stageDirectory(stages.workspace, async (directory) => {
    onStep?.('workspace drive');
    await buildWorkspaceStage(recipe, directory);
  });
  await stageDirectory(stages.initrd, async (directory) => {
    onStep?.('initramfs');
    await buildInitrdStage(stages.kernel, request.agentPath, directory);
  });
  await stageDirectory(stages.rootfs, async (directory) => {
    const node = recipe.npm === undefined ? '' : `, Node ${request.nodeVersion}`;
    onStep?.(`root file system of ${recipe.name} (Debian ${recipe.suite}${node})`);
    await buildRootfsStage(recipe, { nodeBinary: request.nodeBinary }, directory, asRoot);
  });
  return stages;
}

async function assemble(
  request: BuildImageRequest,
  recipeKey: string,
  stages: Stages,
): Promise<{ digest: string; manifest: ImageManifest }> {
  const { npm } = request.recipe;
  const pythonVersion = await pythonVersionOf(stages.rootfs);
  const manifest: ImageManifest = {
    schemaVersion: 1,
    name: request.recipe.name,
    arch: 'x86_64',
    files: [
      await recordedHash(stages.kernel, 'vmlinux'),
      await recordedHash(stages.initrd, 'initrd'),
      await recordedHash(stages.rootfs, 'rootfs.ext4'),
      await recordedHash(stages.workspace, 'workspace.ext4'),
    ],
    agentKey: request.agentKey,
    kernelRelease: await readFile(join(stages.kernel, 'release'), 'utf8'),
    ...(npm === undefined ? {} : { nodeVersion: request.nodeVersion, npmVersion: npm.version }),
    ...defined({ pythonVersion }),
    recipeKey,
  };
  const digest = manifestDigest(manifest);
  await stageDirectory(imageDirectory(request.imagesDir, digest), async (directory) => {
    await link(join(stages.kernel, 'vmlinux'), join(directory, 'vmlinux'));
    await link(join(stages.rootfs, 'rootfs.ext4'), join(directory, 'rootfs.ext4'));
    await link(join(stages.workspace, 'workspace.ext4'), join(directory, 'workspace.ext4'));
    await link(join(stages.initrd, 'initrd'), join(directory, 'initrd'));
    await writeStamps(directory, IMAGE_FILES);
    await writeFile(join(directory, MANIFEST_FILE), canonicalJson(manifest), { mode: 0o444, flush: true });
  });
  return { digest, manifest };
}
