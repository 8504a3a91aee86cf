import { join } from 'node:path';
import type { InstanceRecord } from '../../contracts/host/instance-record.ts';
import { descriptorPath, linkPipe, makeRuntimeDirectory, nextDescriptor, touch, type VmLaunch } from '../vm-user.ts';
import { EVENT_FILES, type QemuMachine, qemuCommandLine, qemuFiles } from './command-line.ts';
import { writeEventFiles } from './event-files.ts';
import { kvmGroup } from './kvm-host.ts';
import type { QemuPaths } from './qemu-paths.ts';

/** Makes the files that QEMU needs beside the VM's disks. @returns how it is started */
export async function qemuLaunch(record: InstanceRecord, paths: QemuPaths, machine: QemuMachine): Promise<VmLaunch> {
  await writeEventFiles(paths.directory);
  const argv = qemuCommandLine(record, paths, machine);
  const { uid, template } = record;
  const state = template === undefined ? {} : { statePath: template.statePath };
  if (uid === undefined) return { argv, ...state };
  const files = qemuFiles(record, paths, machine.memoryFile);
  await touch(paths.consoleLog);
  await makeRuntimeDirectory(paths.runtimeDirectory);
  await linkPipe(paths.runtimeDirectory, {
    [EVENT_FILES.input]: descriptorPath(files, join(paths.directory, EVENT_FILES.input)),
    [EVENT_FILES.output]: descriptorPath(files, join(paths.directory, EVENT_FILES.output)),
  });
  // The group of the KVM device, if used: it opens that device and, since all files are 0600, nothing else.
  const gid = machine.accel === 'kvm' ? ((await kvmGroup()) ?? uid) : uid;
  return { argv, user: { uid, gid }, files, ...state };
}

/** @returns the descriptor of the state that the VMM of a clone restores */
export function stateDescriptor(record: InstanceRecord, paths: QemuPaths): number {
  return nextDescriptor(record.uid === undefined ? undefined : qemuFiles(record, paths));
}
