/** Who owns a VM, a reservation or a log: a workload or a session, known by the id of its workflow. Pure. */
import { KilnError } from './failures.ts';
import { sessionNameOf, WORKLOAD_ID_PATTERN } from './names.ts';

export const OWNER_KINDS = ['workload', 'session'] as const;
export type OwnerKind = (typeof OWNER_KINDS)[number];

/** An owner, at any placement. */
export interface OwnerId {
  readonly kind: OwnerKind;
  /** The part of its workflow id after the kind: `hello`, or `<project>/<thread>/<n>`. */
  readonly id: string;
}

/** An owner at one of its placements. */
export interface OwnerRef extends OwnerId {
  readonly epoch: number;
}

/** One log: what hosts write about an owner during one placement. */
export type LogRef = OwnerRef;

const IS_ID: Readonly<Record<OwnerKind, (id: string) => boolean>> = {
  workload: (id) => WORKLOAD_ID_PATTERN.test(id),
  session: (id) => sessionNameOf(`session/${id}`) !== undefined,
};

/** @returns whether `id` is a well-formed id of its kind; only then is it safe in paths and keys. */
export function isOwnerId({ kind, id }: OwnerId): boolean {
  return IS_ID[kind](id);
}

/** @returns the owner that a workflow id names; undefined for a workflow that owns no VM (a pool, the maintenance). */
export function ownerOf(workflowId: string): OwnerId | undefined {
  const slash = workflowId.indexOf('/');
  const kind = OWNER_KINDS.find((name) => name === workflowId.slice(0, slash));
  return kind === undefined ? undefined : { kind, id: workflowId.slice(slash + 1) };
}

/** @returns the owner of a VM and the placement of the VM; undefined for a VM of a pool. */
export function ownerRefOf(owner: { readonly workflowId: string; readonly epoch: number }): OwnerRef | undefined {
  const found = ownerOf(owner.workflowId);
  return found === undefined ? undefined : { ...found, epoch: owner.epoch };
}

/** @returns the workflow id of an owner. */
export function ownerWorkflowId({ kind, id }: OwnerId): string {
  return `${kind}/${id}`;
}

/** @returns the owner as one word for metrics and messages: a workload by its id alone, others with their kind. */
export function ownerLabel(owner: OwnerId): string {
  return owner.kind === 'workload' ? owner.id : ownerWorkflowId(owner);
}

/** @returns whether two owners are the same. */
export function sameOwnerId(a: OwnerId, b: OwnerId): boolean {
  return a.kind === b.kind && a.id === b.id;
}

/** @throws SPEC_INVALID where the id has not the form of its kind, or the epoch is not a count */
export function assertOwnerRef(ref: OwnerRef): void {
  if (!isOwnerId(ref)) throw new KilnError('SPEC_INVALID', `"${ref.id.slice(0, 120)}" is no id of a ${ref.kind}.`);
  if (!Number.isSafeInteger(ref.epoch) || ref.epoch < 0) {
    throw new KilnError('SPEC_INVALID', `${ref.epoch} is no epoch.`);
  }
}

/** @returns the reference to one placement of a workload. */
export function workloadRef(workloadId: string, epoch: number): OwnerRef {
  return { kind: 'workload', id: workloadId, epoch };
}
