import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { readSetupRecord } from '../../../config/setup-record.ts';
import { defined } from '../../../domain/defined.ts';
import type { DiskRef, DriveSpec, VmSpec } from '../../../domain/vm.ts';
import { createProjectUids, type ProjectUids, usableUidRange } from '../../../vmm/project-uids.ts';
import { createTscRate } from '../../../vmm/qemu/tsc-rate.ts';

const run = promisify(execFile);

export const silentLog = { info: () => undefined, warn: () => undefined };

/** The TSC rate of this machine, measured once per test process. */
export const testTscRate = createTscRate({ ...probe(), deadlineMs: 30_000 });

function probe(): { probePath?: string } {
  const { tscProbePath } = readSetupRecord();
  return defined({ probePath: tscProbePath });
}

/** As in a host worker: root gives the VMMs of each project a user; any other user runs them as itself. */
export function vmUsers(stateDir: string): { vmUids?: ProjectUids } {
  const range = process.getuid?.() === 0 ? usableUidRange(readFileSync('/proc/self/uid_map', 'latin1')) : undefined;
  return range === undefined ? {} : { vmUids: createProjectUids(stateDir, range) };
}

/** A VM of the image that set-up built, with fresh overlays in `directory` as disks. */
export async function imageVmSpec(vmId: string, directory: string): Promise<VmSpec> {
  const { image } = readSetupRecord();
  const file = (name: string) => join(image.directory, name);
  return {
    ...plainVmSpec(vmId),
    kernelPath: file('vmlinux'),
    initrdPath: file('initrd'),
    imageDigest: image.digest,
    drives: [
      await overlay('kiln-root', { path: file('rootfs.ext4'), format: 'raw' }, join(directory, 'root.qcow2')),
      await overlay(
        'kiln-workspace',
        { path: file('workspace.ext4'), format: 'raw' },
        join(directory, 'workspace.qcow2'),
      ),
    ],
  };
}

/** A VM without disks, for the fake driver. */
export function plainVmSpec(vmId: string): VmSpec {
  return {
    vmId,
    owner: {
      workflowId: `workload/${vmId}`,
      firstExecutionId: 'first',
      namespaceId: 'default',
      epoch: 1,
      boot: 1,
      role: 'service',
    },
    vcpus: 1,
    memMib: 512,
    kernelPath: '/none/vmlinux',
    initrdPath: '/none/initrd',
    imageDigest: `sha256:${'0'.repeat(64)}`,
    drives: [],
  };
}

/** @param below the layers under the base, if the base is itself an overlay */
export async function overlay(
  serial: string,
  base: DiskRef,
  path: string,
  below: readonly DiskRef[] = [],
): Promise<DriveSpec> {
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', base.path, '-F', base.format, path]);
  return { serial, path, format: 'qcow2', readOnly: false, backing: [base, ...below] };
}
