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
    /** Who asks, as the line for capacity knows it: a workload by its id. */
    workloadId: string;
    image: string;
    resources: Resources;
    excludedHosts: readonly string[];
    freshForMs: number;
    /** Its place in the line, should it have to wait; absent in calls of older workflows, which wait in no line. */
    place?: {
      priority: Priority;
      /** Age of its request, ms since 1970: who came first goes first. */
      sinceMs: number;
      /** Those who were not seen in the line for this long no longer count, ms. */
      seenForMs: number;
    };
    /** ISO 8601, when the request was accepted; only with the first question of a workload. */
    requestedAt?: string;
  }): Promise<Placement>;
  /** The workload no longer waits for capacity. Not in the line: nothing to do. @throws STORE_UNAVAILABLE */
  leaveLine(input: { workloadId: string }): Promise<void>;
  /** @returns the digest a reference stands for now. @throws IMAGE_MISSING, STORE_UNAVAILABLE */
  resolveImage(input: { image: string }): Promise<{ name: string; digest: string }>;
  /** How long ago a host last registered; null where it never did. */
  checkHost(input: { hostId: string }): Promise<{ ageMs: number | null }>;
}
