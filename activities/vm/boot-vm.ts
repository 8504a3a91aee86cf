import { STARTING } from '../../domain/logs/log-stage.ts';
import { reservationId } from '../../domain/names.ts';
import type { VmOwner, VmStart } from '../../domain/vm.ts';
import type { CapacityLedger, VmHost } from '../../ports/host.ts';
import type { OwnerLogs } from '../../ports/logs.ts';
import { framed } from '../activity-frame.ts';
import { ownerOfCall } from './vm-call.ts';
import type { VmActivities } from './vm-types.ts';

interface Ports {
  readonly vms: Pick<VmHost, 'provision' | 'boot' | 'releaseOlder'>;
  readonly ledger: Pick<CapacityLedger, 'release'>;
  readonly logs: Pick<OwnerLogs, 'open'>;
  readonly namespaceId: string;
}

const STARTED: Readonly<Record<VmStart, string>> = { cold: '', template: ' from a template', pool: ' from the pool' };

/** Copy-on-write disks and the instance record, under the VM's name. */
export function createProvisionRootfs(ports: Ports): VmActivities['provisionRootfs'] {
  return ({ vmId, owner, imageDigest, resources, cold = false, ...call }) =>
    framed(async (signal) => {
      const of = ownerOfCall(call);
      const log = await ports.logs.open(of);
      const owned = { ...owner, namespaceId: ports.namespaceId };
      // A session may come back to a host that it had left; a workload never does.
      if (owner.role === 'session') await releaseOlder(ports, owned);
      const made = await ports.vms.provision({ vmId, owner: owned, imageDigest, resources, cold, signal });
      log.write(
        STARTING[of.kind],
        'info',
        `disks of ${vmId} made by ${made.provisioner} in ${Math.round(made.provisionMs)} ms`,
      );
      return made;
    });
}

/** Their owner has no more use for their places either. */
async function releaseOlder({ vms, ledger }: Pick<Ports, 'vms' | 'ledger'>, owner: VmOwner): Promise<void> {
  for (const { workflowId, epoch } of await vms.releaseOlder(owner)) {
    await ledger.release(reservationId(workflowId, epoch));
  }
}

/** Starts the VM until its agent is configured, or finds it running already. */
export function createBootVm(ports: Ports): VmActivities['bootVm'] {
  return ({ vmId, hostname, deadlineMs, ...call }) =>
    framed(
      async (signal) => {
        const of = ownerOfCall(call);
        const log = await ports.logs.open(of);
        const booted = await ports.vms.boot({ vmId, hostname, deadlineMs, signal });
        const took = `${Math.round(booted.bootMs)} ms${STARTED[booted.start]}`;
        log.write(STARTING[of.kind], 'info', `VM ${vmId} answers after ${took}, pid ${booted.pid}`);
        return booted;
      },
      // An abandoned boot has destroyed its VM; a repeated call could only report that.
      { isMadeAgain: true },
    );
}
