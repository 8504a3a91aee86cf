import { workflowInfo } from '@temporalio/workflow';
import type { OwnerClaim, VmActivities } from '../../activities/vm/vm-types.ts';
import { defined } from '../../domain/defined.ts';
import { reservationId, vmId } from '../../domain/names.ts';
import type { PlacedPolicies } from '../../domain/policies.ts';
import type { VmRole } from '../../domain/vm.ts';
import type { PlacedOwner } from './placed-owner.ts';
import { type Undo, UndoLedger } from './undo-ledger.ts';
import { releaseOnLostHost } from './vm-activities.ts';

/** Where an owner is placed, and what of it exists on that host. */
export interface Placed<Host extends VmActivities = VmActivities> {
  readonly hostId: string;
  readonly epoch: number;
  readonly reservationId: string;
  readonly host: Host;
  /** Names of VMs that may exist; each name is added before anything is made under it. */
  readonly vmIds: string[];
}

/** The VM to make next: its name and its owner. */
export interface MintedVm {
  readonly vmId: string;
  readonly boot: number;
  readonly owner: OwnerClaim;
}

interface PlacementsOptions<Host extends VmActivities> {
  readonly owner: PlacedOwner;
  readonly policies: PlacedPolicies;
  readonly hostActivities: (hostId: string) => Host;
  readonly isLost: (hostId: string) => boolean;
  /** The counts that an earlier execution of the same workflow reached. */
  readonly from: { readonly epoch: number; readonly boots: number };
}

/** Names of placements and VMs, minted before anything is made under them, and the releases that go with them. */
export class Placements<Host extends VmActivities = VmActivities> {
  readonly undo = new UndoLedger();
  private readonly options: PlacementsOptions<Host>;
  private epochs: number;
  private boots: number;

  constructor(options: PlacementsOptions<Host>) {
    this.options = options;
    this.epochs = options.from.epoch;
    this.boots = options.from.boots;
  }

  /** Of the last placement; 0 before the first. */
  get epoch(): number {
    return this.epochs;
  }

  /** An earlier workflow of the same owner has used the epochs up to this one. */
  goOnAfter(epoch: number): void {
    this.epochs = Math.max(this.epochs, epoch);
  }

  /** Of the last VM in this placement; 0 before the first. */
  get boot(): number {
    return this.boots;
  }

  /** Mints the names of a new placement and registers its release before any call to the host. */
  begin(hostId: string): { placed: Placed<Host>; undo: Undo } {
    this.epochs += 1;
    this.boots = 0;
    return this.goOn(hostId, reservationId(this.options.owner.workflowId, this.epochs), []);
  }

  /** Continues the placement of an earlier execution; registers its release again. */
  goOn(hostId: string, reservation: string, vmIds: string[]): { placed: Placed<Host>; undo: Undo } {
    const { owner, policies, hostActivities } = this.options;
    const host = hostActivities(hostId);
    const placed: Placed<Host> = { hostId, epoch: this.epochs, reservationId: reservation, host, vmIds };
    const undo: Undo = {
      name: `reservation ${reservation}`,
      hostId,
      release: async () => {
        const { graceMs } = policies.leave;
        await this.releaser(placed)({ ...owner.call(placed.epoch), vmIds, reservationId: reservation, graceMs });
      },
    };
    this.undo.register(undo);
    return { placed, undo };
  }

  /** A refused placement frees its epoch for the next one: nothing was made under it. */
  forget(): void {
    this.epochs -= 1;
  }

  /** @returns the release activity of a host, with fewer tries where the host is known to be lost. */
  releaser({ hostId, host }: Placed<Host>): VmActivities['releaseVm'] {
    return this.options.isLost(hostId) ? releaseOnLostHost(hostId, this.options.policies) : host.releaseVm;
  }

  /** Mints the name and owner of a new VM: every boot has its own name, so nothing left by a failed boot is reused. */
  mintVm({ epoch }: Placed<Host>, role: VmRole): MintedVm {
    this.boots += 1;
    const { workflowId, firstExecutionRunId } = workflowInfo();
    const { projectId } = this.options.owner;
    return {
      vmId: vmId(workflowId, epoch, this.boots),
      boot: this.boots,
      owner: {
        workflowId,
        firstExecutionId: firstExecutionRunId,
        epoch,
        boot: this.boots,
        role,
        ...defined({ projectId }),
      },
    };
  }
}
