/** Finds the VMs of an earlier process of this host again, before anything new begins. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { VmRole } from '../../domain/vm.ts';
import type { VmDriver } from '../../ports/vm-driver.ts';
import type { InstanceStore } from '../../vmm/instance-record.ts';
import type { HostLogger } from '../host-logger.ts';
import type { HostServices } from '../services/guest-services.ts';
import type { Adoption, HostVms } from './vm-host.ts';

export interface AdoptionPorts {
  readonly driver: Pick<VmDriver, 'list'>;
  readonly records: Pick<InstanceStore, 'read'>;
  readonly vms: Pick<HostVms, 'adopt' | 'promisePorts'>;
  readonly services: Pick<HostServices, 'resume'>;
  /** How long to wait for guests to answer, ms; then adoption goes on without those that have not. */
  readonly startWaitMs: number;
  readonly logger: HostLogger;
}

/** One guest that does not answer must not delay the others, or new work. @returns what became of each */
export async function adoptRecorded(ports: AdoptionPorts): Promise<Adoption[]> {
  const vmIds = await thatNeedNoLeave(ports, await ports.driver.list());
  // A VM with a damaged record has no known ports.
  await Promise.all(vmIds.map((vmId) => ports.vms.promisePorts(vmId).catch(() => undefined)));
  const late = sleep(ports.startWaitMs, undefined, { ref: false });
  return Promise.all(
    vmIds.map((vmId) =>
      Promise.race([
        adoptWithService(ports, vmId),
        late.then(() => ({ vmId, adopted: false, reason: 'it has not answered yet; the host goes on trying' })),
      ]),
    ),
  );
}

/**
 * Leaves out pooled VMs, which are paused and answer nobody, and those of sessions: a newer one may run elsewhere, so
 * they get channel, egress and ports only once Temporal has been asked. Includes VMs with a damaged record.
 */
async function thatNeedNoLeave({ records }: AdoptionPorts, vmIds: readonly string[]): Promise<string[]> {
  const roles = await Promise.all(vmIds.map((vmId) => records.read(vmId).catch(() => undefined)));
  return vmIds.filter((_, index) => !ASKS_FIRST.has(roles[index]?.owner.role));
}

const ASKS_FIRST: ReadonlySet<VmRole | undefined> = new Set<VmRole>(['pool', 'session']);

async function adoptWithService({ vms, services, logger }: AdoptionPorts, vmId: string): Promise<Adoption> {
  const adoption = await vms.adopt(vmId);
  if (!adoption.adopted) return adoption;
  try {
    await services.resume(vmId);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    logger.warn({ vmId, reason }, 'the output of a service is not read until somebody asks for it');
  }
  return adoption;
}
