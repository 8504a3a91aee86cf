/** Which guests a template serves, as it is stored: a kind of guest, and how the disks of its clones are made. */

import { createHash } from 'node:crypto';
import type { TemplateManifest } from '../../contracts/host/template-manifest.ts';
import { defined } from '../../domain/defined.ts';
import { type GuestKind, guestKindKey, guestKindOf, resourcesOf } from '../../domain/guest-kind.ts';

/** @param provisioner how this host makes root disks: clones make theirs as their template did */
export function storedKey(kind: GuestKind, provisioner: string): TemplateManifest['key'] {
  const { imageDigest, projectId } = kind;
  return { imageDigest, resources: resourcesOf(kind), ...defined({ projectId }), provisioner };
}

/** @returns the kind of guest that a template on disk was frozen from */
export function kindOf({ key }: Pick<TemplateManifest, 'key'>): GuestKind {
  return guestKindOf(key);
}

/** @returns the part of a template's name that all templates of one kind and provisioner share, 16 hex digits */
export function templateKeyHash(kind: GuestKind, provisioner: string): string {
  return createHash('sha256').update(guestKindKey(kind, provisioner)).digest('hex').slice(0, 16);
}
