import { framed } from './activity-frame.ts';
import type { HostActivities } from './activity-types.ts';
import type { VmHost, WorkloadLogs } from './ports.ts';

interface Ports {
  readonly vms: VmHost;
  readonly logs: WorkloadLogs;
  readonly namespaceId: string;
}

/** Copy-on-write disks and the instance record, under the VM's name. */
export function createProvisionRootfs(ports: Ports): HostActivities['provisionRootfs'] {
  return ({ workloadId, epoch, vmId, owner, imageDigest, resources }) =>
    framed(async (signal) => {
      const log = await ports.logs.open(workloadId, epoch);
      const owned = { ...owner, namespaceId: ports.namespaceId };
      const made = await ports.vms.provision({ vmId, owner: owned, imageDigest, resources, signal });
      log.write('deploy', 'info', `disks of ${vmId} made by ${made.provisioner} in ${Math.round(made.provisionMs)} ms`);
      return made;
    });
}

/** Boots to a configured agent, or finds the VM that runs already. */
export function createBootVm(ports: Ports): HostActivities['bootVm'] {
  return ({ workloadId, epoch, vmId, hostname, deadlineMs }) =>
    framed(async (signal) => {
      const log = await ports.logs.open(workloadId, epoch);
      const booted = await ports.vms.boot({ vmId, hostname, deadlineMs, signal });
      log.write('deploy', 'info', `VM ${vmId} answers after ${Math.round(booted.bootMs)} ms, pid ${booted.pid}`);
      return booted;
    });
}
