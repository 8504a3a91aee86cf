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
  /** Memory as it is, not as it is promised; absent where nobody measures. */
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
  /** Below this no new VM is taken, MiB. */
  readonly floorMib: number;
  /** What all VMMs use, shared pages counted once, MiB. */
  readonly vmsMib: number;
}
