/** Which images a host need not keep. Pure. */

/** An image that lies on a host. */
export interface KeptImage {
  readonly digest: string;
  /** Since somebody asked for it, ms. */
  readonly idleMs: number;
  /** Whether something that lies on the host is made over it: a VM, a template, a checkpoint. */
  readonly inUse: boolean;
}

export interface ImageCollectionLimits {
  /** So many stay however long nobody asks for them: those that were asked for last. */
  readonly keep: number;
  /** Nothing that was asked for more recently goes, ms: whoever was given it may just be about to make a VM over it. */
  readonly idleMs: number;
}

/** @returns digests of those that may go, the one that was asked for longest ago first */
export function imagesToRemove(images: readonly KeptImage[], { keep, idleMs }: ImageCollectionLimits): string[] {
  return [...images]
    .sort((a, b) => a.idleMs - b.idleMs)
    .slice(keep)
    .filter((image) => !image.inUse && image.idleMs >= idleMs)
    .map(({ digest }) => digest)
    .reverse();
}
