import { join } from 'node:path';
import type { InstanceRecord } from '../../contracts/host/instance-record.ts';
import type { VmPaths } from '../vm-paths.ts';

/** Where everything of a VM lies under QEMU. */
export interface QemuPaths extends VmPaths {
  /** QEMU's control socket. */
  readonly qmpSocket: string;
}

/** @returns the sockets that QEMU has beside the agent's, by the names that records have for them */
export function qemuSockets(runtimeDirectory: string): { qmp: string } {
  return { qmp: join(runtimeDirectory, 'qmp.sock') };
}

/** @returns paths of a VM with its control socket as its record has it */
export function qemuPaths(record: Pick<InstanceRecord, 'sockets'>, paths: VmPaths): QemuPaths {
  const { qmp } = { ...qemuSockets(paths.runtimeDirectory), ...record.sockets };
  return { ...paths, qmpSocket: qmp };
}
