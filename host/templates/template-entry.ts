/** What a host knows of one of its templates. */

import { join } from 'node:path';
import type { TemplateManifest } from '../../contracts/host/template-manifest.ts';
import type { KilnError } from '../../domain/failures.ts';
import type { TemplateSummary } from '../../domain/pool/pool-status.ts';
import { type BaseDisk, type CachedImage, FROZEN_FILES, type TemplateRef } from '../../domain/vm.ts';
import type { FileLooks } from './template-files.ts';
import { kindOf } from './template-key.ts';

/** A template that a VM can be cloned from now. */
export interface UsableTemplate {
  readonly ref: TemplateRef;
  /** Base of the clone's root disk. */
  readonly root: BaseDisk;
}

export interface TemplateEntry {
  readonly manifest: TemplateManifest;
  looks: FileLooks | undefined;
  superseded: boolean;
  lastUsedAt: number | undefined;
  clones: number;
  /** When it was last found for a clone, monotonic ms. */
  lastHandedOutAt?: number;
  /** A clone was late once. */
  blamed?: boolean;
}

/** Failures that a busy host can cause in a good clone, too. */
const BY_CHANCE: readonly unknown[] = ['AGENT_TIMEOUT', 'TIMED_OUT', 'BOOT_TIMEOUT', 'AGENT_LOST'];

/** @returns whether a clone was only late or lost, which need not be its template's fault */
export function isByChance({ details }: KilnError): boolean {
  return BY_CHANCE.includes(details.was);
}

/** @param looks absent until its files have been checked */
export function newEntry(manifest: TemplateManifest, looks: FileLooks | undefined): TemplateEntry {
  return { manifest, looks, superseded: false, lastUsedAt: undefined, clones: 0 };
}

export function isOlder(a: TemplateEntry, b: TemplateEntry): boolean {
  return Date.parse(a.manifest.createdAt) < Date.parse(b.manifest.createdAt);
}

/** @returns when it was last cloned from, or made */
export function lastUse({ lastUsedAt, manifest }: TemplateEntry): number {
  return lastUsedAt ?? Date.parse(manifest.createdAt);
}

/** Files of the image that a clone's disks read. */
export function imageFiles(image: CachedImage): string[] {
  return [image.rootfsPath];
}

/** @returns what a clone is made over */
export function usable(directory: string, { templateId, disk }: TemplateManifest, image: CachedImage): UsableTemplate {
  const path = join(directory, disk.name);
  const { format } = disk;
  const base: BaseDisk = { path: image.rootfsPath, format: 'raw' };
  const ofRoot: BaseDisk = format === 'raw' ? { path, format } : { path, format, backing: [base] };
  return {
    ref: {
      templateId,
      memoryPath: join(directory, FROZEN_FILES.memory),
      statePath: join(directory, FROZEN_FILES.state),
    },
    root: disk.role === 'root' ? ofRoot : { ...base, scratch: { path, format } },
  };
}

/** @returns its summary for display */
export function viewOf({ manifest, looks, superseded, lastUsedAt, clones }: TemplateEntry): TemplateSummary {
  return {
    ...kindOf(manifest),
    templateId: manifest.templateId,
    image: manifest.imageName,
    createdAt: manifest.createdAt,
    ...(lastUsedAt === undefined ? {} : { lastUsedAt: new Date(lastUsedAt).toISOString() }),
    bytes: manifest.files.reduce((sum, { bytes }) => sum + bytes, 0),
    clones,
    state: superseded ? 'superseded' : looks === undefined ? 'unverified' : 'usable',
  };
}
