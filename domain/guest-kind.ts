/** Which guests are interchangeable before they get an owner: those of one image, one size and one project. */
import { defined } from './defined.ts';
import type { Resources } from './workload/workload.ts';

export interface GuestKind {
  readonly imageDigest: string;
  readonly vcpus: number;
  readonly memMib: number;
  /** Size of /workspace, MiB; absent: that of the image. */
  readonly diskMib?: number;
  /** The tenant: guests of one project are never given to another. */
  readonly projectId?: string;
}

/** @returns the kind of guest for these resources */
export function guestKindOf(wanted: {
  readonly imageDigest: string;
  readonly resources: Resources;
  readonly projectId?: string | undefined;
}): GuestKind {
  const { imageDigest, projectId } = wanted;
  const { vcpus, memMib, diskMib } = wanted.resources;
  return {
    imageDigest,
    vcpus,
    memMib,
    ...defined({ diskMib, projectId }),
  };
}

/** @returns what a guest of this kind may use */
export function resourcesOf({ vcpus, memMib, diskMib }: GuestKind): Resources {
  return { vcpus, memMib, ...defined({ diskMib }) };
}

/**
 * @param more what else must be equal
 * @returns one text for each kind, always the same for the same kind. Names of templates on disk are made from it.
 */
export function guestKindKey(kind: GuestKind, ...more: readonly string[]): string {
  const { imageDigest, vcpus, memMib, diskMib, projectId } = kind;
  return JSON.stringify([imageDigest, vcpus, memMib, diskMib ?? null, projectId ?? null, ...more]);
}
