/** How a VM is removed. The order matters: no step harms what has not been removed yet. */
import { isFullDisk, isKilnError, KilnError } from '../../domain/failures.ts';
import type { DriveSpec } from '../../domain/vm.ts';
import type { RootfsProvisioner } from '../../ports/disks.ts';
import type { AgentChannel } from '../../ports/guest-agent.ts';
import type { VmDriver } from '../../ports/vm-driver.ts';
import type { InstanceStore } from '../../vmm/instance-record.ts';
import { keptSocketFolders } from '../../vmm/socket-folders.ts';
import { releaseDrives } from '../disks/drives.ts';
import type { EgressPolicies } from '../egress/policies.ts';
import type { HostLogger } from '../host-logger.ts';
import type { VmPorts } from '../vm-ports/vm-ports.ts';
import type { VmChannels } from './channels.ts';

export interface TakeAwayPorts {
  readonly driver: Pick<VmDriver, 'stop' | 'destroy' | 'status'>;
  readonly provisioner: RootfsProvisioner;
  readonly workspaces: RootfsProvisioner;
  readonly records: Pick<InstanceStore, 'directory' | 'read' | 'list'>;
  readonly vmPorts: Pick<VmPorts, 'close'>;
  readonly egress: Pick<EgressPolicies, 'forget'>;
  readonly channels: Pick<VmChannels, 'end'>;
  readonly logger: HostLogger;
}

/**
 * Ports, policy, channel, process, disks, files, record: in that order, each proven gone.
 * @throws INTERNAL where something of the VM is left
 */
export async function takeAway(ports: TakeAwayPorts, vmId: string, graceMs: number): Promise<void> {
  const { driver } = ports;
  await ports.vmPorts.close(vmId);
  ports.egress.forget(vmId);
  // Read now: where the VM can only be destroyed, its record is gone before its disks can be removed.
  const drives = await drivesOf(ports, vmId);
  const stopped = await ports.channels.end(vmId, (agent) => stopProven(ports, vmId, { graceMs, agent }));
  const releaseDisks = async () => {
    if (drives !== undefined) await releaseDrives(ports, { directory: ports.records.directory(vmId), vmId, drives });
  };
  if (stopped) await releaseDisks();
  // The driver proves that no process is left before it removes the record.
  await driver.destroy(vmId);
  if (!stopped) await releaseDisks();
  const left = await driver.status(vmId);
  if (left.state !== 'gone') throw new KilnError('INTERNAL', `The VM ${vmId} is ${left.state} after its release.`);
}

/** @returns the drives in its record; none without a record; undefined where another VM had this name first */
async function drivesOf({ records }: TakeAwayPorts, vmId: string): Promise<readonly DriveSpec[] | undefined> {
  try {
    const record = await records.read(vmId);
    if (record !== undefined) return record.drives;
  } catch (error) {
    // The record is damaged: everything under the VM's name is removed all the same.
    if (!isKilnError(error, 'INTERNAL')) throw error;
    return [];
  }
  // A VM that was handed out under another name keeps its disks, like its sockets.
  return (await keptSocketFolders(records)).has(vmId) ? undefined : [];
}

/** @returns false where the record is damaged, or a full disk prevents a write: then only a destroy can end the VM */
async function stopProven(
  { driver, logger }: TakeAwayPorts,
  vmId: string,
  options: { graceMs: number; agent: AgentChannel | undefined },
): Promise<boolean> {
  try {
    await driver.stop(vmId, options);
    return true;
  } catch (error) {
    if (!isKilnError(error, 'INTERNAL') && !isFullDisk(error)) throw error;
    logger.warn({ vmId, reason: error.message }, 'a VM could not be stopped in order; destroying it');
    return false;
  }
}
