import { defined } from '../../domain/defined.ts';
import { isKilnError, isOutage, messageOf } from '../../domain/failures.ts';
import { workloadIdOf } from '../../domain/names.ts';
import type { ClosedExecution, MaintenancePorts, RecordedExecution } from '../../ports/maintenance.ts';
import { framed, short } from '../activity-frame.ts';
import type { MaintenanceActivities, RecordedPage } from './maintenance-types.ts';

type Ports = Pick<MaintenancePorts, 'closed' | 'archive'>;
type Input = Parameters<MaintenanceActivities['recordHistories']>[0];

/** Most executions of one workflow; more of them mean that something is wrong. */
const MAX_CHAIN = 10_000;
/** Histories in a row that Temporal does not return; then Temporal is the cause, not the histories. */
const MAX_SILENCES = 3;
const MESSAGE = 300;

/** Where a scan begins, and where the next one may. */
export function createRecorderPosition({
  archive,
}: Ports): Pick<MaintenanceActivities, 'recorderPosition' | 'saveRecorderPosition'> {
  return {
    recorderPosition: () =>
      short(async () => {
        const closedAfter = await archive.position();
        return defined({ closedAfter });
      }),
    saveRecorderPosition: ({ closedBefore }) => short(() => archive.savePosition(closedBefore)),
  };
}

/**
 * Records one page of closed executions. Each is a step that may be repeated: it writes the events, then their
 * document. Once a workflow has ended and all its executions are recorded, it writes the document that says so.
 */
export function createRecordHistories(ports: Ports): MaintenanceActivities['recordHistories'] {
  return (input) =>
    framed(async (signal) => {
      const { closedAfter, token, pageSize } = input;
      const { items, next } = await ports.closed.list({
        pageSize,
        ...defined({ closedAfter, token }),
      });
      return { ...(await recordAll(ports, items, input, signal)), ...defined({ next }) };
    });
}

async function recordAll(
  ports: Ports,
  items: readonly ClosedExecution[],
  input: Input,
  signal: AbortSignal,
): Promise<Omit<RecordedPage, 'next'>> {
  const sum = { seen: 0, executions: 0, workflows: 0, results: 0, more: false };
  const failed: { workflowId: string; message: string; closedAt: string }[] = [];
  let silences = 0;
  for (const item of items) {
    signal.throwIfAborted();
    if (sum.executions >= input.maxRecorded) return summary({ ...sum, more: true }, failed);
    sum.seen += 1;
    try {
      const { executions, whole, result } = await recordOne(ports, item, input);
      sum.executions += executions;
      sum.workflows += whole ? 1 : 0;
      sum.results += result ? 1 : 0;
      silences = 0;
    } catch (error) {
      // An unavailable store fails the page; one unreadable execution must not stop the others from being recorded.
      if (isKilnError(error) && isOutage(error.code)) throw error;
      silences = isKilnError(error, 'TEMPORAL_UNAVAILABLE') ? silences + 1 : 0;
      if (silences >= MAX_SILENCES) throw error;
      const message = messageOf(error);
      failed.push({ workflowId: item.workflowId, message: message.slice(0, MESSAGE), closedAt: item.closedAt });
    }
  }
  return summary(sum, failed);
}

function summary(
  sum: Pick<RecordedPage, 'seen' | 'executions' | 'workflows' | 'results' | 'more'>,
  failed: readonly { workflowId: string; message: string; closedAt: string }[],
): Omit<RecordedPage, 'next'> {
  const earliestFailed = failed.map(({ closedAt }) => closedAt).sort()[0];
  return {
    ...sum,
    failed: failed.map(({ workflowId, message }) => ({ workflowId, message })),
    ...defined({ earliestFailed }),
  };
}

/** @returns what was written: executions, whether the whole history is now complete, whether a result was written. */
async function recordOne(
  ports: Ports,
  { workflowId, executionId, continued }: ClosedExecution,
  { deriveAfterMs, nowMs }: Input,
): Promise<{ executions: number; whole: boolean; result: boolean }> {
  const { closed, archive } = ports;
  const standing = await archive.whole(workflowId);
  if (
    standing?.deletedAt !== undefined ||
    standing?.executions.some((execution) => execution.executionId === executionId)
  ) {
    return { executions: 0, whole: false, result: false };
  }
  // An execution that continued as new is recorded too: Temporal may forget it long before the workflow ends.
  const isLast = !continued && (await closed.latest(workflowId))?.executionId === executionId;
  if (!isLast) {
    const { written } = await recordExecution(ports, workflowId, executionId);
    return { executions: written ? 1 : 0, whole: false, result: false };
  }
  const workloadId = workloadIdOf(workflowId);
  const settled = workloadId === undefined ? 'none' : await closed.settleResult(workloadId, { deriveAfterMs, nowMs });
  const { chain, executions } = await recordChain(ports, workflowId, executionId);
  await archive.saveWhole(workflowId, chain);
  return { executions, whole: true, result: settled === 'written' || settled === 'derived' };
}

/** From the last execution back to the first, records each. @throws NOT_FOUND where Temporal has forgotten one */
async function recordChain(ports: Ports, workflowId: string, last: string) {
  const chain: RecordedExecution[] = [];
  let executions = 0;
  for (let executionId: string | undefined = last; executionId !== undefined; ) {
    if (chain.length >= MAX_CHAIN) throw new Error(`${workflowId} has more than ${MAX_CHAIN} executions`);
    const { recorded, written } = await recordExecution(ports, workflowId, executionId);
    chain.unshift(recorded);
    executions += written ? 1 : 0;
    executionId = recorded.continuedFrom;
  }
  return { chain, executions };
}

async function recordExecution(
  { closed, archive }: Ports,
  workflowId: string,
  executionId: string,
): Promise<{ recorded: RecordedExecution; written: boolean }> {
  const recorded = await archive.execution(workflowId, executionId);
  if (recorded !== undefined) return { recorded, written: false };
  return { recorded: await archive.saveExecution(await closed.fetch(workflowId, executionId)), written: true };
}
