/** Signatures of the activities that find a place for a VM. They need no host. */
import type { Priority } from '../../domain/capacity/priority.ts';
import type { Resources } from '../../domain/workload/workload.ts';

export type Placement =
  | {
      readonly kind: 'placed';
      readonly hostId: string;
      readonly image: { readonly name: string; readonly digest: string };
    }
  /** `ahead`: how many are served before it. */
  | { readonly kind: 'wait'; readonly reason: string; readonly ahead?: number }
  | { readonly kind: 'impossible'; readonly reason: string };

export interface PlacementActivities {
  /** Resolves the image and picks the least loaded host that fits. @throws IMAGE_MISSING, STORE_UNAVAILABLE */
  placeWorkload(input: {
    /** Who asks, by its name in the line for capacity: a workload's id. */
    workloadId: string;
    image: string;
    resources: Resources;
    excludedHosts: readonly string[];
    freshForMs: number;
    /** Its place in the line, where it has to wait; absent in calls of older workflows, which do not use the line. */
    place?: {
      priority: Priority;
      /** When it was requested, ms since 1970: the oldest goes first. */
      sinceMs: number;
      /** Requests that were not seen in the line for this long do not count, ms. */
      seenForMs: number;
    };
    /** ISO 8601, when the request was accepted; only in the first question of a workload. */
    requestedAt?: string;
  }): Promise<Placement>;
  /** The workload no longer waits for capacity. Not in the line: nothing to do. @throws STORE_UNAVAILABLE */
  leaveLine(input: { workloadId: string }): Promise<void>;
  /** @returns the digest that a reference resolves to now. @throws IMAGE_MISSING, STORE_UNAVAILABLE */
  resolveImage(input: { image: string }): Promise<{ name: string; digest: string }>;
  /** How long ago a host last registered; null: never. */
  checkHost(input: { hostId: string }): Promise<{ ageMs: number | null }>;
}
