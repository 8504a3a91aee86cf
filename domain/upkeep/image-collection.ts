/** Which images a host may remove. Pure. */

/** An image on a host. */
export interface KeptImage {
  readonly digest: string;
  /** Time since the last request for it, ms. */
  readonly idleMs: number;
  /** Whether a VM, a template or a checkpoint on the host is made over it. */
  readonly inUse: boolean;
}

export interface ImageCollectionLimits {
  /** Number of images that always stay: those requested last. */
  readonly keep: number;
  /** An image requested more recently than this stays, ms: a caller may be about to make a VM over it. */
  readonly idleMs: number;
}

/** @returns digests of the images to remove, the one requested longest ago first */
export function imagesToRemove(images: readonly KeptImage[], { keep, idleMs }: ImageCollectionLimits): string[] {
  return [...images]
    .sort((a, b) => a.idleMs - b.idleMs)
    .slice(keep)
    .filter((image) => !image.inUse && image.idleMs >= idleMs)
    .map(({ digest }) => digest)
    .reverse();
}
