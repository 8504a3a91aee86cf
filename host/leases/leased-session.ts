/** What a host does for sessions, with their leases looked after: each call of a workflow renews that of its VM. */
import type { SessionRuns, SessionVms } from '../../ports/runs.ts';
import type { SessionSaves } from '../../ports/saves.ts';
import type { SessionLeases } from './session-leases.ts';

/** @returns runs that begin once the VM has its lease */
export function leasedRuns(runs: SessionRuns, leases: Pick<SessionLeases, 'called'>): SessionRuns {
  return {
    async run(run, signal) {
      await leases.called(run.vmId);
      return runs.run(run, signal);
    },
    async cancel(run) {
      await leases.called(run.vmId);
      return runs.cancel(run);
    },
    isOver: (run) => runs.isOver(run),
    readOutput: (run, after, maxBytes) => runs.readOutput(run, after, maxBytes),
    followOutput: (run, options) => runs.followOutput(run, options),
  };
}

/** @returns saves that talk to a guest once it has its lease */
export function leasedSaves(saves: SessionSaves, leases: Pick<SessionLeases, 'called'>): SessionSaves {
  return {
    claim: (of) => saves.claim(of),
    async snapshot(of, mark, signal) {
      await leases.called(of.vmId);
      return saves.snapshot(of, mark, signal);
    },
    upload: (of, signal) => saves.upload(of, signal),
    async restore(of, signal) {
      await leases.called(of.vmId);
      return saves.restore(of, signal);
    },
  };
}

/** @returns VMs that need a lease from their wake to their rest */
export function leasedVms(vms: SessionVms, leases: Pick<SessionLeases, 'called' | 'atRest'>): SessionVms {
  return {
    pause: (vmId, signal) => leases.atRest(vmId, () => vms.pause(vmId, signal)),
    async setEgress(vmId, allow, signal) {
      await leases.called(vmId);
      return vms.setEgress(vmId, allow, signal);
    },
    resume: (vmId, options) => vms.resume(vmId, options),
  };
}
