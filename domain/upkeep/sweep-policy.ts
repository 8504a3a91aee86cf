import type { VmRole } from '../vm.ts';

/** What Temporal says about the workflow and epoch that own a VM. */
export type OwnerVerdict = 'open' | 'over' | 'unreadable';

/** A VM with an instance record, as the sweep finds it. */
export interface SweptVm {
  readonly vmId: string;
  readonly role: VmRole;
  readonly owner: OwnerVerdict;
  /** How long the owner has been known to be over, ms; 0 where the sweep has only just learnt it. */
  readonly overForMs: number;
  /** Whether the host manages it: channel, ports and policy are in place. */
  readonly attached: boolean;
}

/** Disks or sockets under the name of a VM without an instance record. */
export interface Orphan {
  readonly name: string;
  /** This process is working on that name now. */
  readonly busy: boolean;
}

export interface SweepFacts {
  readonly vms: readonly SweptVm[];
  readonly orphans: readonly Orphan[];
}

export interface SweepLimits {
  /** How long an owner must have been over before its VM is destroyed, ms: its own workflow releases first. */
  readonly graceMs: number;
  /** Most VMs that one sweep destroys: a mistake about many owners at once must not end a fleet. */
  readonly maxDestroys: number;
}

export type SweepAction =
  | { readonly kind: 'destroy-vm'; readonly vmId: string }
  | { readonly kind: 'leave-vm'; readonly vmId: string; readonly reason: string }
  | { readonly kind: 'attach-vm'; readonly vmId: string }
  | { readonly kind: 'remove-orphan'; readonly name: string };

/**
 * Decides what a sweep does. It destroys only with proof that the owner is over; what cannot be read stays.
 * @returns one action for each thing that needs one, longest over first
 */
export function decideSweep(facts: SweepFacts, limits: SweepLimits): SweepAction[] {
  const actions: SweepAction[] = [];
  let destroys = 0;
  for (const vm of [...facts.vms].sort((a, b) => b.overForMs - a.overForMs || (a.vmId < b.vmId ? -1 : 1))) {
    const action = decideVm(vm, limits, destroys);
    if (action === undefined) continue;
    if (action.kind === 'destroy-vm') destroys++;
    actions.push(action);
  }
  for (const { name, busy } of facts.orphans) if (!busy) actions.push({ kind: 'remove-orphan', name });
  return actions;
}

function decideVm(vm: SweptVm, limits: SweepLimits, destroys: number): SweepAction | undefined {
  const { vmId } = vm;
  if (vm.owner === 'unreadable') return { kind: 'leave-vm', vmId, reason: 'its owner cannot be read' };
  if (vm.owner === 'open') return vm.attached ? undefined : { kind: 'attach-vm', vmId };
  if (vm.overForMs < limits.graceMs) return { kind: 'leave-vm', vmId, reason: 'its owner is over; the grace runs' };
  if (destroys >= limits.maxDestroys) {
    return { kind: 'leave-vm', vmId, reason: `${limits.maxDestroys} VMs destroyed in this sweep already` };
  }
  return { kind: 'destroy-vm', vmId };
}
