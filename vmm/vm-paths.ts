import { join } from 'node:path';
import { KilnError } from '../domain/failures.ts';
import { checkVmId } from './instance-record.ts';

/** Longest path that fits a unix socket address (108 bytes with the closing zero). */
const MAX_SOCKET_PATH_BYTES = 107;

export interface VmPaths {
  /** Record, disks, logs. */
  readonly directory: string;
  /** Sockets only; short. */
  readonly runtimeDirectory: string;
  readonly agentSocket: string;
  /** What the guest's kernel and init print. */
  readonly consoleLog: string;
  /** What the VMM itself prints. */
  readonly vmmLog: string;
}

/**
 * @returns where everything of a VM lies
 * @throws CONFIG_INVALID where the socket paths would be too long or the runtime directory holds odd characters
 */
export function vmPaths(dirs: { stateDir: string; runtimeDir: string }, vmId: string): VmPaths {
  const directory = join(dirs.stateDir, 'vms', checkVmId(vmId));
  const runtimeDirectory = join(dirs.runtimeDir, vmId);
  const agentSocket = join(runtimeDirectory, 'agent.sock');
  checkRuntimeDir(dirs.runtimeDir, Buffer.byteLength(agentSocket));
  return {
    directory,
    runtimeDirectory,
    agentSocket,
    consoleLog: join(directory, 'console.log'),
    vmmLog: join(directory, 'vmm.log'),
  };
}

/** The sockets' directory also identifies a VM's processes by their argv, so no command line may need to quote it. */
function checkRuntimeDir(runtimeDir: string, socketBytes: number): void {
  if (!/^\/[A-Za-z0-9._/+-]+$/.test(runtimeDir)) {
    throw new KilnError(
      'CONFIG_INVALID',
      `The runtime directory ${runtimeDir} must be absolute, of [A-Za-z0-9._/+-] only`,
    );
  }
  if (socketBytes > MAX_SOCKET_PATH_BYTES) {
    throw new KilnError(
      'CONFIG_INVALID',
      `The runtime directory ${runtimeDir} is too long: a socket path has ${socketBytes} bytes, at most ${MAX_SOCKET_PATH_BYTES} fit. Choose a shorter one, e.g. /run/kiln`,
      { runtimeDir },
    );
  }
}
