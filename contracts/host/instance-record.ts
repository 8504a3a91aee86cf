import { z } from 'zod';
import { FAILURES, type FailureCode } from '../../domain/failures.ts';
import type { DiskRef, DriveSpec, TemplateRef, VmExit, VmOwner, VmStart } from '../../domain/vm.ts';

/** The file that owns a VM on a host: `<state>/vms/<vmId>/instance.json`. Without this record there is no VM. */

export const VM_ID_PATTERN = /^[a-z0-9][a-z0-9-]{0,23}$/;

const absolutePath = z.string().startsWith('/').max(4096);
const port = z.int().min(1).max(65_535);
const isoTime = z.iso.datetime();
const failureCode = z.string().refine((code): code is FailureCode => Object.hasOwn(FAILURES, code));

const owner = z.strictObject({
  workflowId: z.string().min(1).max(1024),
  firstExecutionId: z.string().min(1).max(128),
  namespaceId: z.string().min(1).max(256),
  epoch: z.int().min(0),
  boot: z.int().min(0),
  role: z.enum(['service', 'builder', 'session', 'pool']),
  projectId: z.string().min(1).max(256).exactOptional(),
}) satisfies z.ZodType<VmOwner>;

const disk = z.strictObject({ path: absolutePath, format: z.enum(['raw', 'qcow2']) }) satisfies z.ZodType<DiskRef>;

const drive = z
  .strictObject({
    serial: z.string().regex(/^[a-z0-9-]{1,20}$/),
    ...disk.shape,
    readOnly: z.boolean(),
    backing: z.array(disk).max(8).exactOptional(),
    /** The raw image below; used by older records, from when a base could not be a template's disk. */
    backingPath: absolutePath.exactOptional(),
  })
  .transform(({ backingPath, ...drive }): DriveSpec => {
    if (backingPath === undefined || drive.backing !== undefined) return drive;
    return { ...drive, backing: [{ path: backingPath, format: 'raw' }] };
  });

const template = z.strictObject({
  templateId: z.string().regex(/^[a-z0-9-]{1,64}$/),
  memoryPath: absolutePath,
  statePath: absolutePath,
}) satisfies z.ZodType<TemplateRef>;

const exit = z.strictObject({
  reason: z.enum(['guest-shutdown', 'guest-panic', 'killed', 'memory-limit', 'vmm-crash', 'unknown']),
  code: z.int().nullable(),
  signal: z.string().max(32).nullable(),
  detail: z.string().max(16_384).exactOptional(),
}) satisfies z.ZodType<VmExit>;

const start = z.enum(['cold', 'template', 'pool']) satisfies z.ZodType<VmStart>;

/** Identifies one process for certain: pids are reused, start times within one boot of the host are not. */
const vmProcess = z.strictObject({
  pid: z.int().min(2),
  /** Field 22 of `/proc/<pid>/stat`: clock ticks since the host's boot. */
  startTicks: z.string().regex(/^\d{1,20}$/),
  /** `/proc/sys/kernel/random/boot_id` of the host when the process was started. */
  hostBootId: z.string().min(1).max(64),
});

export const instanceRecordSchema = z.strictObject({
  version: z.literal(1),
  vmId: z.string().regex(VM_ID_PATTERN),
  driver: z.enum(['qemu', 'firecracker', 'fake']),
  owner,
  /** User and group that the VMM runs as; absent where it runs as the user of the host worker. */
  uid: z.int().min(1).max(4_294_967_294).exactOptional(),
  imageDigest: z.string().min(1).max(256),
  vcpus: z.int().min(1).max(256),
  memMib: z.int().min(16).max(1_048_576),
  kernelPath: absolutePath,
  initrdPath: absolutePath,
  drives: z.array(drive).max(8),
  /** Socket of the agent, and others of the driver's program under the driver's own names. */
  sockets: z.object({ agent: absolutePath }).catchall(absolutePath),
  /** Host listeners for guest ports; the host manages them, not the driver. */
  ports: z.array(z.strictObject({ guestPort: port, hostPort: port })).max(64),
  /** The frozen guest that this VM continues; absent: it boots cold. */
  template: template.exactOptional(),
  /** How the VM starts, decided when it was provisioned; absent in records of older versions. */
  start: start.exactOptional(),
  createdAt: isoTime,
  /** Absent until the process was started and recorded. */
  process: vmProcess.exactOptional(),
  /** Present once the process is known to be gone; such a VM never starts again. */
  exit: exit
    .extend({
      at: isoTime,
      /** Why the start failed: a repeated start fails with the same code. */
      failure: z.strictObject({ code: failureCode, message: z.string().max(4096) }).exactOptional(),
    })
    .exactOptional(),
});

export type InstanceRecord = z.infer<typeof instanceRecordSchema>;
export type VmProcess = z.infer<typeof vmProcess>;
