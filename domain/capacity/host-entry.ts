/** What a host writes about itself to `hosts/<hostId>.json`, every few seconds. */
export interface HostEntry {
  readonly hostId: string;
  /** Base URL of its data plane. */
  readonly url: string;
  /** ISO 8601, when it was written. */
  readonly at: string;
  readonly capacity: HostCapacity;
  /** Capacity that is not reserved. */
  readonly free: HostCapacity;
  /** Real memory use, not reservations; absent where nothing measures it. */
  readonly memory?: HostMemory;
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

/** A reservation is a promise; this is what the machine has. Both must allow a new VM. */
export interface HostMemory {
  /** What the kernel could give to new processes, MiB. */
  readonly availableMib: number;
  /** Below this the host takes no new VM, MiB. */
  readonly floorMib: number;
  /** What all VMMs use, with shared pages counted once, MiB. */
  readonly vmsMib: number;
}
