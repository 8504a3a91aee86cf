/** Plain types of the VM layer that travel between activities, host and drivers. */

/** `pool`: a VM without an owner yet. */
export type VmRole = 'service' | 'builder' | 'session' | 'pool';

/** Who a VM belongs to: enough to ask Temporal whether its epoch is over. */
export interface VmOwner {
  readonly workflowId: string;
  readonly firstExecutionId: string;
  readonly namespaceId: string;
  readonly epoch: number;
  readonly boot: number;
  readonly role: VmRole;
  /** The tenant; VMs of one project share a user of the machine, a VM without a project has its own user. */
  readonly projectId?: string;
}

/** @returns whether two claims to a VM are for the same boot of the same workflow */
export function sameOwner(a: VmOwner, b: VmOwner): boolean {
  return (
    a.workflowId === b.workflowId &&
    a.firstExecutionId === b.firstExecutionId &&
    a.namespaceId === b.namespaceId &&
    a.epoch === b.epoch &&
    a.boot === b.boot &&
    a.role === b.role
  );
}

/** An image on a host: every file present and checked. */
export interface CachedImage {
  readonly name: string;
  readonly digest: string;
  readonly kernelPath: string;
  readonly initrdPath: string;
  /** Raw ext4 image, read-only for all. */
  readonly rootfsPath: string;
  readonly rootfsBytes: number;
  /** Empty raw ext4 image for the /workspace drive, sparse. */
  readonly workspacePath: string;
  /** Of these files, from the image's manifest. */
  readonly sha256: { readonly kernel: string; readonly rootfs: string };
}

export type DiskFormat = 'raw' | 'qcow2';

export interface DiskRef {
  readonly path: string;
  readonly format: DiskFormat;
}

/** What a VM's disk is made over: an image, or the frozen disk of a template. Never written. */
export interface BaseDisk extends DiskRef {
  /** For a qcow2 disk: the disks that it only holds the differences to, nearest first. */
  readonly backing?: readonly DiskRef[];
  /** Where its guest wrote to a separate disk: that disk, also frozen. */
  readonly scratch?: DiskRef;
}

export interface DriveSpec {
  /** Serial seen by the guest: `kiln-root`, `kiln-workspace`, `kiln-scratch`. */
  readonly serial: string;
  readonly path: string;
  readonly format: DiskFormat;
  readonly readOnly: boolean;
  /** The disks that a qcow2 drive only holds the differences to, nearest first. */
  readonly backing?: readonly DiskRef[];
}

/** A frozen guest that a VM continues instead of booting. */
export interface TemplateRef {
  readonly templateId: string;
  /** Memory of the frozen guest; every clone maps it and writes to its own pages. */
  readonly memoryPath: string;
  /** State of its devices. */
  readonly statePath: string;
}

/** How a VM starts: by booting, from a frozen guest, or from a pool, where it was cloned and paused in advance. */
export type VmStart = 'cold' | 'template' | 'pool';

/** Names of the files that a freeze makes. */
export const FROZEN_FILES = { memory: 'memory', state: 'state' } as const;

/** Everything that a driver needs to make one VM. */
export interface VmSpec {
  readonly vmId: string;
  readonly owner: VmOwner;
  readonly vcpus: number;
  readonly memMib: number;
  readonly kernelPath: string;
  readonly initrdPath: string;
  readonly imageDigest: string;
  /** Root first, workspace second; third, for a read-only root, the scratch disk. */
  readonly drives: readonly DriveSpec[];
  /** Absent: a cold boot. */
  readonly template?: TemplateRef;
}

/** What a guest receives before any user code runs. */
export interface GuestIdentity {
  readonly hostname: string;
  /** 32 fresh random bytes, hex. */
  readonly seedHex: string;
  /** 32 hex digits. */
  readonly machineId: string;
  readonly wallClockMs: number;
}

/** `memory-limit`: guest and VMM together needed more than the VM's control group allows. */
export type VmExitReason = 'guest-shutdown' | 'guest-panic' | 'killed' | 'memory-limit' | 'vmm-crash' | 'unknown';

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
  /** No instance record: the VM does not exist. */
  | { readonly state: 'gone' };
