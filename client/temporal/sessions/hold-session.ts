/** Uses the VM of a session beside its runs: wakes it, keeps it running meanwhile, and lets it rest again. */
import { WorkflowUpdateRPCTimeoutOrCancelledError } from '@temporalio/client';
import { isKilnError, KilnError } from '../../../domain/failures.ts';
import { sessionWorkflowId, type ThreadName } from '../../../domain/names.ts';
import { DEFAULT_SESSION_POLICIES } from '../../../domain/policies.ts';
import type { HeldVm, HoldKind, HoldOrder } from '../../../domain/session/holds.ts';
import { holdUpdate, releaseSignal } from '../../../workflows/session/session-messages.ts';
import { withDeadline } from '../temporal-calls.ts';
import { mintId } from '../workloads/create-workload.ts';
import type { SessionClientContext } from './session-client-context.ts';
import { nameOf, openRecord } from './session-names.ts';
import { MAX_TRIES, overInTemporal, updateOrStart } from './session-updates.ts';

/** A VM that a hold keeps running, and the workflow that it belongs to. */
export interface HeldSession extends HeldVm {
  readonly workflowId: string;
}

export interface HoldOptions {
  readonly kind: HoldKind;
  /** How long to wait for the VM, ms. */
  readonly waitMs: number;
}

/**
 * Does a piece of work while the session's VM runs. The hold is kept for as long as the work takes, and released then.
 * Begins the session.
 * @param work `ask` asks for the VM once more: it may be another one by now
 * @throws what `work` throws; QUEUE_FULL, SESSION_CLOSED, SESSION_EXPIRED; the code of what stood in the way of a VM;
 *   STORE_UNAVAILABLE, TEMPORAL_UNAVAILABLE
 */
export async function withHold<T>(
  context: SessionClientContext,
  name: ThreadName,
  { kind, waitMs }: HoldOptions,
  work: (held: HeldSession, ask: () => Promise<HeldSession>) => Promise<T>,
): Promise<T> {
  const order: HoldOrder = { id: mintId('h'), kind };
  let workflowId: string | undefined;
  const onTry = (id: string): void => {
    workflowId = id;
  };
  const ask = () => holdThread(context, name, order, { waitMs, onTry });
  let keeping: NodeJS.Timeout | undefined;
  try {
    const held = await ask();
    const keepMs = (context.policies?.session?.holdMs ?? DEFAULT_SESSION_POLICIES.session.holdMs) / 3;
    // A hold that cannot be kept ends by itself; the work then fails where it needs the VM.
    keeping = setInterval(() => void ask().catch(() => undefined), keepMs);
    return await work(held, ask);
  } finally {
    clearInterval(keeping);
    if (workflowId !== undefined) await release(context, workflowId, order.id);
  }
}

async function holdThread(
  context: SessionClientContext,
  name: ThreadName,
  order: HoldOrder,
  { waitMs, onTry }: { readonly waitMs: number; readonly onTry: (workflowId: string) => void },
): Promise<HeldSession> {
  for (let tries = 1; ; tries++) {
    const record = await openRecord(context, name, {});
    const workflowId = sessionWorkflowId(nameOf(record));
    onTry(workflowId);
    const held = await updateOrStart(context, record, holdUpdate, order, waitMs).catch((error: unknown) => {
      const isLate = isKilnError(error) && error.cause instanceof WorkflowUpdateRPCTimeoutOrCancelledError;
      throw isLate ? noVmYet(record.thread, waitMs, error) : error;
    });
    if (held !== 'over') return { ...held, workflowId };
    context.lately.forget(name);
    if (tries >= MAX_TRIES) throw await overInTemporal(context, record);
  }
}

/** A release that is lost only leaves a hold that ends by itself. */
async function release({ client, timings }: SessionClientContext, workflowId: string, id: string): Promise<void> {
  const handle = client.workflow.getHandle(workflowId);
  await withDeadline(client, timings.callMs, () => handle.signal(releaseSignal, { id })).catch(() => undefined);
}

function noVmYet(thread: string, waitMs: number, cause: unknown): KilnError {
  const message = `The session of thread ${thread} had no VM after ${waitMs} ms; try again in a moment.`;
  return new KilnError('TEMPORAL_UNAVAILABLE', message, {}, cause);
}
