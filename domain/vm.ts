/** Plain types of the VM layer that travel between activities, host and drivers. */

/** `pool`: of nobody yet. */
export type VmRole = 'service' | 'builder' | 'session' | 'pool';

/** Who a VM belongs to: enough to ask Temporal whether its epoch is over. */
export interface VmOwner {
  readonly workflowId: string;
  readonly firstExecutionId: string;
  readonly namespaceId: string;
  readonly epoch: number;
  readonly boot: number;
  readonly role: VmRole;
  /** The tenant; VMs of one project share a user of the machine, those of none have one of their own. */
  readonly projectId?: string;
}

/** An image as a host has it: every file present and checked. */
export interface CachedImage {
  readonly name: string;
  readonly digest: string;
  readonly kernelPath: string;
  readonly initrdPath: string;
  /** Raw ext4 image, read-only to everybody. */
  readonly rootfsPath: string;
  readonly rootfsBytes: number;
  /** Empty raw ext4 image for the /workspace drive, sparse. */
  readonly workspacePath: string;
}

export type DiskFormat = 'raw' | 'qcow2';

export interface DriveSpec {
  /** Serial seen by the guest: `kiln-root`, `kiln-workspace`. */
  readonly serial: string;
  readonly path: string;
  readonly format: DiskFormat;
  readonly readOnly: boolean;
  /** The raw image that a qcow2 drive only holds the differences to. */
  readonly backingPath?: string;
}

/** All that a driver needs to make one VM. */
export interface VmSpec {
  readonly vmId: string;
  readonly owner: VmOwner;
  readonly vcpus: number;
  readonly memMib: number;
  readonly kernelPath: string;
  readonly initrdPath: string;
  readonly imageDigest: string;
  /** Root first, workspace second. */
  readonly drives: readonly DriveSpec[];
}

/** What a guest is told before any user code runs. */
export interface GuestIdentity {
  readonly hostname: string;
  /** 32 fresh random bytes, hex. */
  readonly seedHex: string;
  /** 32 hex digits. */
  readonly machineId: string;
  readonly wallClockMs: number;
}

export type VmExitReason = 'guest-shutdown' | 'guest-panic' | 'killed' | 'vmm-crash' | 'unknown';

/** Why a VM's process is gone. */
export interface VmExit {
  readonly reason: VmExitReason;
  readonly code: number | null;
  readonly signal: string | null;
  /** Last lines of the VMM's own error output or of the guest's console. */
  readonly detail?: string;
}

export type VmStatus =
  | { readonly state: 'prepared' | 'running' | 'paused'; readonly pid?: number }
  | { readonly state: 'exited'; readonly exit: VmExit }
  /** No record: there is no such VM. */
  | { readonly state: 'gone' };
