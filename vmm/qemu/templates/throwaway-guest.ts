/**
 * A guest that serves the process that started it and ends with it (`setpriv --pdeathsig`): it has no record, nobody
 * adopts it, and a crash during its life leaves files and no process.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import type { InstanceRecord } from '../../../contracts/host/instance-record.ts';
import { defined } from '../../../domain/defined.ts';
import { recordedMachine } from '../../instance-record.ts';
import { plainLimits } from '../../limits/plain-limits.ts';
import type { VmLimits } from '../../limits/vm-limits.ts';
import { lendFiles } from '../../vm-user.ts';
import type { QemuMachine } from '../command-line.ts';
import { qemuLaunch } from '../launch.ts';
import type { QemuPaths } from '../qemu-paths.ts';

export interface ThrowawayGuest {
  readonly process: ChildProcess;
  /** Resolves once its process has ended, however; never rejects. */
  readonly ended: Promise<void>;
}

/** Specification of a guest without a name and an owner. */
export type ThrowawaySpec = Parameters<typeof recordedMachine>[0];

const DIE_WITH_PARENT = ['setpriv', '--pdeathsig', 'KILL', '--'];

/** @returns the paths of such a guest, whose sockets have short names: a socket's path is bounded */
export function throwawayPaths(directory: string, runtimeDirectory: string): QemuPaths {
  return {
    directory,
    runtimeDirectory,
    agentSocket: join(runtimeDirectory, 'a.sock'),
    qmpSocket: join(runtimeDirectory, 'q.sock'),
    consoleLog: join(directory, 'console.log'),
    vmmLog: join(directory, 'vmm.log'),
  };
}

/**
 * @param name used for both VM and owner
 * @returns a record that is never written: command lines are made of records
 */
export function throwawayRecord(
  name: string,
  spec: ThrowawaySpec,
  paths: QemuPaths,
  { projectId, uid }: { readonly projectId?: string | undefined; readonly uid?: number | undefined } = {},
): InstanceRecord {
  const nobody = { workflowId: name, firstExecutionId: name, namespaceId: name, epoch: 0, boot: 0 };
  return {
    version: 1,
    vmId: name,
    driver: 'qemu',
    owner: { ...nobody, role: 'service', ...defined({ projectId }) },
    ...defined({ uid }),
    ...recordedMachine(spec),
    sockets: { agent: paths.agentSocket, qmp: paths.qmpSocket },
    ports: [],
    createdAt: new Date(0).toISOString(),
  };
}

/**
 * Starts the VMM of such a guest. The caller ends it: SIGKILL, then `ended`.
 * @param limits limit it to its size; the caller releases its group by `record.vmId` once it has ended
 */
export async function startThrowaway(
  record: InstanceRecord,
  paths: QemuPaths,
  machine: QemuMachine,
  limits: VmLimits = plainLimits,
): Promise<ThrowawayGuest> {
  const command = await qemuLaunch(record, paths, machine);
  // Repeated after whatever `launch` puts before it: the kernel forgets it where a process becomes another user.
  const bound = { ...command, argv: [...DIE_WITH_PARENT, ...command.argv] };
  const { argv, user, files } = await limits.launch(record, bound, paths.directory);
  const opened = await lendFiles(record.uid, files, paths);
  let log: FileHandle | undefined;
  try {
    log = await open(paths.vmmLog, 'a', 0o600);
    const [file = '', ...args] = [...DIE_WITH_PARENT, ...argv];
    const child = spawn(file, args, {
      cwd: '/',
      stdio: ['ignore', log.fd, log.fd, ...opened.descriptors],
      ...user,
    });
    const over = () => undefined;
    return { process: child, ended: once(child, 'exit').then(over, over) };
  } finally {
    await opened.close();
    await log?.close();
  }
}
