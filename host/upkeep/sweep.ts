import { join } from 'node:path';
import { VM_ID_PATTERN } from '../../contracts/host/instance-record.ts';
import { messageOf } from '../../domain/failures.ts';
import {
  decideSweep,
  type OwnerVerdict,
  type SweepAction,
  type SweepLimits,
  type SweptVm,
} from '../../domain/upkeep/sweep-policy.ts';
import type { VmOwner } from '../../domain/vm.ts';
import { directoryEntries, mayExist } from '../../linux/directory-entries.ts';
import type { VmDriver } from '../../ports/vm-driver.ts';
import { createInstanceStore } from '../../vmm/instance-record.ts';
import { keptSocketFolders } from '../../vmm/socket-folders.ts';
import type { HostCapacityLedger } from '../capacity/ledger.ts';
import type { HostLogger } from '../host-logger.ts';
import type { HostVms } from '../vms/vm-host.ts';

/** An open workflow, and the placement of its newest VM. */
export type OpenOwner = Pick<VmOwner, 'firstExecutionId' | 'epoch'>;

/** Asks the source of truth by a strong read. `over` only on its explicit answer. */
export interface OwnerLookup {
  lookup(owner: VmOwner): Promise<OwnerVerdict>;
  /**
   * Owners that have a claim to a VM of this host, by an index that may be a moment old: one call for all of them. It
   * proves nothing about those that it leaves out. Absent: each owner is asked for.
   */
  openHere?(): Promise<ReadonlyMap<string, OpenOwner>>;
}

export interface SweepOptions extends SweepLimits {
  readonly stateDir: string;
  readonly runtimeDir: string;
  readonly driver: Pick<VmDriver, 'list' | 'inspect' | 'status' | 'listGroups'>;
  readonly vms: Pick<HostVms, 'adopt' | 'isAttached' | 'isBusy' | 'release'>;
  readonly ledger: Pick<HostCapacityLedger, 'list' | 'prune' | 'release'>;
  readonly owners: OwnerLookup;
  /** Knows VMs that belong to no workload yet, and names under which the pool makes or destroys one. */
  readonly pool?: { owns(name: string): boolean };
  /** Goes on with everything else that belongs to an adopted VM. */
  readonly onAdopted: (vmId: string) => Promise<void>;
  readonly logger: HostLogger;
  /** Monotonic ms: time in which the machine sleeps does not count towards a grace period. */
  readonly now?: () => number;
}

export interface SweepReport {
  /** VMs attached by this sweep. */
  readonly adopted: readonly string[];
  readonly destroyed: readonly string[];
  readonly left: readonly { readonly vmId: string; readonly reason: string }[];
  /** Names without a VM record under which something was left. */
  readonly removed: readonly string[];
  /** Reservations that had expired without a VM, or that went with their VM. */
  readonly released: readonly string[];
  /** Workflow ids of the owners of what was destroyed or released. */
  readonly freedOf: readonly string[];
  readonly errors: readonly { readonly name: string; readonly message: string }[];
}

interface FoundVm extends SweptVm {
  readonly workflowId: string;
}

type MutableReport = { -readonly [Key in keyof SweepReport]: SweepReport[Key][number][] };

/** @returns a sweep; one at a time. A call during a sweep gets a new one after it: the current one began too early. */
export function createSweep(options: SweepOptions): { run(): Promise<SweepReport> } {
  const sweeper = new Sweeper(options);
  let running: Promise<SweepReport> | undefined;
  let next: Promise<SweepReport> | undefined;
  const begin = (): Promise<SweepReport> => {
    next = undefined;
    running = sweeper.run().finally(() => {
      running = undefined;
    });
    return running;
  };
  return {
    run() {
      if (running === undefined) return next ?? begin();
      next ??= running.then(begin, begin);
      return next;
    },
  };
}

class Sweeper {
  private readonly options: SweepOptions;
  /** When an owner was first known to be over. After a restart the grace period begins again. */
  private readonly overSince = new Map<string, number>();

  constructor(options: SweepOptions) {
    this.options = options;
  }

  async run(): Promise<SweepReport> {
    const report: MutableReport = {
      adopted: [],
      destroyed: [],
      left: [],
      removed: [],
      released: [],
      freedOf: [],
      errors: [],
    };
    // If the records cannot be listed, nothing else here is proven: this throws, and nothing is done.
    const vmIds = await this.options.driver.list();
    const vms = await this.readVms(vmIds, report);
    const orphans = await this.findOrphans(vmIds);
    await this.prune(report);
    const owners = new Map(vms.map(({ vmId, workflowId }) => [vmId, workflowId]));
    for (const action of decideSweep({ vms, orphans }, this.options)) {
      await this.act(action, report, owners).catch((error: unknown) => {
        const name = 'vmId' in action ? action.vmId : action.name;
        report.errors.push({ name, message: messageOf(error) });
      });
    }
    const { destroyed, removed, released, errors } = report;
    if (destroyed.length + removed.length + released.length + errors.length > 0) {
      this.options.logger.info({ destroyed, removed, released, errors }, 'sweep');
    }
    return report;
  }

  /** The ledger decides about expiry itself, in one step with the removal. */
  private async prune(report: MutableReport): Promise<void> {
    const before = await this.options.ledger.list();
    const released = await this.options.ledger.prune();
    report.released.push(...released);
    for (const { id, ownerWorkflowId } of before) if (released.includes(id)) report.freedOf.push(ownerWorkflowId);
  }

  /** Once its owner is over, a VM's reservation need not wait until it expires. */
  private async releaseReservation(vmId: string, workflowId: string, report: MutableReport): Promise<void> {
    report.freedOf.push(workflowId);
    for (const { id, ownerWorkflowId } of await this.options.ledger.list()) {
      if (ownerWorkflowId !== workflowId || !(vmId === id || vmId.startsWith(`${id}-`))) continue;
      await this.options.ledger.release(id);
      report.released.push(id);
    }
  }

  private async readVms(vmIds: readonly string[], report: MutableReport): Promise<FoundVm[]> {
    const vms: FoundVm[] = [];
    let open: Promise<ReadonlyMap<string, OpenOwner>> | undefined;
    const openHere = () => {
      open ??= this.options.owners.openHere?.().catch(() => NONE) ?? Promise.resolve(NONE);
      return open;
    };
    for (const vmId of vmIds) {
      try {
        const found = await this.options.driver.inspect(vmId);
        if (found === undefined) continue;
        const owner = await this.verdictOn(vmId, found.owner, openHere);
        const { role, workflowId } = found.owner;
        // A pooled VM is paused and has no channel until it is handed out: there is nothing to attach.
        const attached = role === 'pool' || (await this.isCaredFor(vmId));
        vms.push({ vmId, role, workflowId, owner, overForMs: this.overFor(vmId, owner), attached });
      } catch (error) {
        const message = messageOf(error);
        report.left.push({ vmId, reason: `its record cannot be read: ${message}` });
      }
    }
    for (const vmId of this.overSince.keys()) if (!vmIds.includes(vmId)) this.overSince.delete(vmId);
    return vms;
  }

  private async verdictOn(
    vmId: string,
    owner: VmOwner,
    openHere: () => Promise<ReadonlyMap<string, OpenOwner>>,
  ): Promise<OwnerVerdict> {
    if (owner.role === 'pool') return this.options.pool?.owns(vmId) === true ? 'open' : 'over';
    // Sessions rest for days, and there are many of them: at rest none of them costs a call of its own.
    if (owner.role === 'session' && isSame((await openHere()).get(owner.workflowId), owner)) return 'open';
    return this.options.owners.lookup(owner).catch((): OwnerVerdict => 'unreadable');
  }

  /** A VM that is being started or released has no channel for a while, and a paused one none at all. */
  private async isCaredFor(vmId: string): Promise<boolean> {
    const { vms, driver } = this.options;
    if (vms.isAttached(vmId) || vms.isBusy(vmId)) return true;
    const { state } = await driver.status(vmId);
    return state !== 'running';
  }

  private overFor(vmId: string, owner: OwnerVerdict): number {
    const now = (this.options.now ?? (() => performance.now()))();
    if (owner !== 'over') {
      this.overSince.delete(vmId);
      return 0;
    }
    const since = this.overSince.get(vmId) ?? now;
    this.overSince.set(vmId, since);
    return now - since;
  }

  private async findOrphans(vmIds: readonly string[]): Promise<{ name: string; busy: boolean }[]> {
    const { stateDir, runtimeDir, vms, driver } = this.options;
    const names = [
      ...(await directoryEntries(join(stateDir, 'vms'))),
      ...(await directoryEntries(runtimeDir)),
      ...(await driver.listGroups()),
    ];
    const kept = await keptSocketFolders(createInstanceStore(stateDir));
    const orphans: { name: string; busy: boolean }[] = [];
    for (const name of new Set(names.filter((id) => VM_ID_PATTERN.test(id) && !vmIds.includes(id)))) {
      if (kept.has(name)) continue;
      // A record may have been written since the list was read.
      if (await mayExist(join(stateDir, 'vms', name, 'instance.json'))) continue;
      orphans.push({ name, busy: vms.isBusy(name) || this.options.pool?.owns(name) === true });
    }
    return orphans;
  }

  private async act(action: SweepAction, report: MutableReport, owners: ReadonlyMap<string, string>): Promise<void> {
    if (action.kind === 'destroy-vm') {
      await this.options.vms.release(action.vmId, { graceMs: 0 });
      report.destroyed.push(action.vmId);
      const owner = owners.get(action.vmId);
      if (owner !== undefined) await this.releaseReservation(action.vmId, owner, report);
    } else if (action.kind === 'leave-vm') report.left.push({ vmId: action.vmId, reason: action.reason });
    else if (action.kind === 'attach-vm') {
      const { adopted, reason } = await this.options.vms.adopt(action.vmId);
      if (!adopted) report.left.push({ vmId: action.vmId, reason: reason ?? 'it could not be attached' });
      else {
        report.adopted.push(action.vmId);
        await this.options.onAdopted(action.vmId);
      }
    } else if (action.kind === 'remove-orphan') {
      // Also ends a process of that name, if there is one.
      await this.options.vms.release(action.name, { graceMs: 0 });
      report.removed.push(action.name);
    }
  }
}

const NONE: ReadonlyMap<string, OpenOwner> = new Map();

function isSame(open: OpenOwner | undefined, { firstExecutionId, epoch }: VmOwner): boolean {
  return open !== undefined && open.firstExecutionId === firstExecutionId && open.epoch === epoch;
}
