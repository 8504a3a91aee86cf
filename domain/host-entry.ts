/** What a host says of itself in `hosts/<hostId>.json`, every few seconds. */
export interface HostEntry {
  readonly hostId: string;
  /** Base URL of its data plane. */
  readonly url: string;
  /** ISO 8601 of the writing. */
  readonly at: string;
  readonly capacity: HostCapacity;
  /** What no reservation holds. */
  readonly free: HostCapacity;
  /** One-minute load average. */
  readonly load: number;
  /** Digests of the images it has cached. */
  readonly images: readonly string[];
  readonly driver: string;
  readonly versions: Readonly<Record<string, string>>;
  /** Takes no new work. */
  readonly draining: boolean;
}

export interface HostCapacity {
  /** Sum of vCPUs that may be reserved. */
  readonly vcpus: number;
  /** Memory for guests and their VMMs, MiB. */
  readonly memMib: number;
}
