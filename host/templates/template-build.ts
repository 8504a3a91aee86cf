/** Makes one template: boots, warms and freezes a guest in a folder that gets its final name last. */

import { mkdir, rename, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { TEMPLATE_MANIFEST, type TemplateManifest } from '../../contracts/host/template-manifest.ts';
import { defined } from '../../domain/defined.ts';
import { KilnError } from '../../domain/failures.ts';
import type { GuestKind } from '../../domain/guest-kind.ts';
import { type CachedImage, type DriveSpec, FROZEN_FILES } from '../../domain/vm.ts';
import { writeStateFile } from '../../linux/state-file.ts';
import { syncDirectory } from '../../linux/sync-directory.ts';
import type { TemplateMaker } from '../../ports/vm-driver.ts';
import { type DrivePorts, makeDrives, ROOT_SERIAL, SCRATCH_SERIAL } from '../disks/drives.ts';
import { hashFiles, type KnownFiles } from './template-files.ts';
import { storedKey, templateKeyHash } from './template-key.ts';

/** Suffix of the folders of unfinished templates. */
export const UNFINISHED = '.building';
/** Name, in place of a VM's id, for the disks of a guest that is to be frozen. */
const DISK_NAME = 'template';

export interface TemplateBuildPorts extends DrivePorts {
  readonly maker: TemplateMaker;
  /** Where templates lie. */
  readonly directory: string;
}

export interface TemplateBuildRequest {
  readonly kind: GuestKind;
  readonly image: CachedImage;
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
}

/**
 * @returns the manifest of the new template, which is complete and on disk, and what its files are known by
 * @throws BOOT_TIMEOUT, VMM_EXITED, AGENT_TIMEOUT, HYPERVISOR_UNAVAILABLE, DISK_FULL, CANCELLED; then nothing is left
 */
export async function buildTemplate(
  ports: TemplateBuildPorts,
  request: TemplateBuildRequest,
): Promise<{ manifest: TemplateManifest; known: KnownFiles }> {
  const begun = Date.now();
  const provisioner = ports.provisioner.kind;
  const templateId = `${templateKeyHash(request.kind, provisioner)}-${begun.toString(36)}`;
  const directory = join(ports.directory, `${templateId}${UNFINISHED}`);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  try {
    const spec = await freeze(ports, request, directory, templateId);
    const disk = frozenDisk(spec.drives);
    const fingerprint = await ports.maker.fingerprint(spec);
    const { files, known } = await hashFiles(directory, [FROZEN_FILES.memory, FROZEN_FILES.state, disk.name]);
    const manifest: TemplateManifest = {
      version: 1,
      templateId,
      key: storedKey(request.kind, provisioner),
      imageName: request.image.name,
      fingerprint,
      disk,
      files,
      createdAt: new Date(begun).toISOString(),
      tookMs: Date.now() - begun,
    };
    await writeStateFile(join(directory, TEMPLATE_MANIFEST), manifest);
    await rename(directory, join(ports.directory, templateId));
    await syncDirectory(ports.directory);
    return { manifest, known };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function freeze(
  ports: TemplateBuildPorts,
  { kind, image, deadlineMs, signal }: TemplateBuildRequest,
  directory: string,
  templateId: string,
): Promise<TemplateSpec> {
  const drives = await makeDrives(ports, {
    image,
    directory,
    vmId: DISK_NAME,
    resources: kind,
    rootBase: { path: image.rootfsPath, format: 'raw' },
  });
  const spec = templateSpec(kind, image, drives);
  await ports.maker.freeze({
    directory,
    name: templateId,
    spec,
    ...defined({ projectId: kind.projectId }),
    warm: warmPrograms(image.name),
    deadlineMs,
    signal,
  });
  return spec;
}

/** The disk that a guest wrote to while it booted; the workspace is not mounted yet. */
function frozenDisk(drives: readonly DriveSpec[]): TemplateManifest['disk'] {
  const scratch = drives.find(({ serial }) => serial === SCRATCH_SERIAL);
  const written = scratch ?? drives.find(({ serial }) => serial === ROOT_SERIAL);
  if (written === undefined) throw new KilnError('INTERNAL', 'A guest without a root disk cannot be frozen.');
  return { role: scratch === undefined ? 'root' : 'scratch', name: basename(written.path), format: written.format };
}

export type TemplateSpec = Parameters<TemplateMaker['fingerprint']>[0];

/** @returns the specification by which a guest of this kind is frozen, and a clone of it restored */
export function templateSpec(kind: GuestKind, image: CachedImage, drives: readonly DriveSpec[]): TemplateSpec {
  return {
    vcpus: kind.vcpus,
    memMib: kind.memMib,
    kernelPath: image.kernelPath,
    initrdPath: image.initrdPath,
    imageDigest: image.digest,
    drives,
  };
}

/**
 * Run once before a guest is frozen: every clone then has the language's program in its memory and shares it with
 * the others. Contains nothing of a user.
 */
function warmPrograms(imageName: string): readonly (readonly string[])[] {
  if (imageName.startsWith('node')) return [['node', '-e', 'require("node:http")']];
  if (imageName.startsWith('python')) return [['python3', '-c', 'import http.server, json, ssl']];
  return [];
}
