import { type Client, WorkflowNotFoundError } from '@temporalio/client';
import type { OpenOwner, OwnerLookup } from '../../host/upkeep/sweep.ts';
import { SESSION_WORKFLOW } from '../../workflows/session/session-messages.ts';

interface OwnerLookupOptions {
  readonly client: Client;
  readonly namespaceId: string;
  readonly hostId: string;
}

/** Asks Temporal whether a VM's owner still has a claim to it: describe reads the server's own state, not an index. */
export function createOwnerLookup(options: OwnerLookupOptions): OwnerLookup {
  return {
    async lookup(owner) {
      // Another namespace, or a server whose data was replaced, does not know this VM: that proves nothing.
      if (owner.namespaceId !== options.namespaceId) return 'unreadable';
      try {
        const found = await options.client.workflow.getHandle(owner.workflowId).describe();
        const info = found.raw.workflowExecutionInfo;
        if (info?.firstRunId !== undefined && info.firstRunId !== '' && info.firstRunId !== owner.firstExecutionId)
          return 'over';
        if (found.status.name !== 'RUNNING') return 'over';
        if (isOlder(owner.epoch, found.memo?.epoch)) return 'over';
        const host: unknown = found.searchAttributes.KilnHost?.[0];
        // A host is never used twice by one workload, so another host means another epoch.
        return host === undefined || host === options.hostId ? 'open' : 'over';
      } catch (error) {
        return error instanceof WorkflowNotFoundError ? 'over' : 'unreadable';
      }
    },
    openHere: () => options.client.withDeadline(Date.now() + LIST_MS, () => openHere(options)),
  };
}

/** A session may come back to a host: there only the newest placement counts. */
function isOlder(epoch: number, newest: unknown): boolean {
  return typeof newest === 'number' && epoch < newest;
}

async function openHere({ client, hostId }: OwnerLookupOptions): Promise<ReadonlyMap<string, OpenOwner>> {
  const open = new Map<string, OpenOwner>();
  const query = `WorkflowType = '${SESSION_WORKFLOW}' AND ExecutionStatus = 'Running' AND KilnHost = '${hostId}'`;
  for await (const { workflowId, memo } of client.workflow.list({ query, pageSize: LISTED })) {
    // The index does not know the first execution by itself.
    const [epoch, firstExecutionId]: unknown[] = [memo?.epoch, memo?.firstExecutionId];
    if (typeof epoch !== 'number' || typeof firstExecutionId !== 'string') continue;
    open.set(workflowId, { firstExecutionId, epoch });
  }
  return open;
}

/** A sweep must not wait for an index that does not answer: it asks for each owner then. */
const LIST_MS = 10_000;
/** Sessions of one page. */
const LISTED = 1000;
