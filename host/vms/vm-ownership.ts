/** Whose VM it is: workflow, first execution, placement. Pure. */
import { KilnError } from '../../domain/failures.ts';
import type { VmOwner } from '../../domain/vm.ts';
import type { VmHost } from '../../ports/host.ts';

/** @throws CONFLICT where the VM belongs to another workflow, a later one of its id, or another placement */
export function assertOwnedBy(
  { vmId, owner }: { readonly vmId: string; readonly owner: VmOwner },
  { workflowId, epoch, firstExecutionId }: Parameters<VmHost['assertOwner']>[1],
): void {
  const isSame = owner.workflowId === workflowId && owner.epoch === epoch;
  if (isSame && (firstExecutionId === undefined || owner.firstExecutionId === firstExecutionId)) return;
  const message = `VM ${vmId} belongs to ${owner.workflowId}, epoch ${owner.epoch}, not to ${workflowId}, epoch ${epoch}.`;
  throw new KilnError('CONFLICT', message, { vmId });
}

/** @returns whether `old` is over since `now` is there: another first execution begins only after the one before is over. */
export function isOlder(old: VmOwner, now: VmOwner): boolean {
  if (old.workflowId !== now.workflowId || old.namespaceId !== now.namespaceId) return false;
  return old.firstExecutionId !== now.firstExecutionId || old.epoch < now.epoch;
}
