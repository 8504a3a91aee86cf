/** Waits for a certain state of a workflow. Its answers change only after an event in its history. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Client } from '@temporalio/client';

/** Looks this often without an event: whether a worker answers at all is not in the history. */
const LOOK_AGAIN_MS = 1_000;
/** Events come in bursts; and a closed execution may have a successor. */
const PAUSE_MS = 20;

type HistoryReply = Awaited<ReturnType<Client['workflowService']['getWorkflowExecutionHistory']>>;
type HistoryEvent = NonNullable<NonNullable<NonNullable<HistoryReply['history']>['events']>[number]>;
type IsOfInterest = (event: HistoryEvent) => boolean;

/** With its stage a workload always changes its search attributes; its end is of interest to everybody. */
export const movesStage: IsOfInterest = (event) => event.upsertWorkflowSearchAttributesEventAttributes != null;

/**
 * Looks after each event of a workflow's history, and now and then without one. Each look is a query, which costs the
 * server and the worker as much as a step of the workflow: looking continuously would slow everything else.
 * @param look returns undefined to be called again
 * @param isOfInterest events after which to look; default: all
 * @returns the result of `look`
 * @throws the errors of `look`
 */
export async function afterEachEvent<T>(
  client: Client,
  workflowId: string,
  look: () => Promise<T | undefined>,
  isOfInterest: IsOfInterest = () => true,
): Promise<T> {
  const history = new GrowingHistory(client, workflowId, isOfInterest);
  try {
    await history.grown();
    for (;;) {
      const found = await look();
      if (found !== undefined) return found;
      await Promise.race([history.grown(), delay(LOOK_AGAIN_MS, undefined, { ref: false })]);
      await delay(PAUSE_MS);
    }
  } finally {
    history.close();
  }
}

class GrowingHistory {
  private readonly client: Client;
  private readonly workflowId: string;
  private readonly isOfInterest: IsOfInterest;
  private readonly closed = new AbortController();
  private position: Uint8Array | undefined;
  private waiting: Promise<void> | undefined;

  constructor(client: Client, workflowId: string, isOfInterest: IsOfInterest) {
    this.client = client;
    this.workflowId = workflowId;
    this.isOfInterest = isOfInterest;
  }

  /** Resolves when there are new events since the last call; the first call only finds the end of the history. */
  grown(): Promise<void> {
    this.waiting ??= this.nextEvents()
      // The workflow does not exist yet, or the server does not answer.
      .catch(() => undefined)
      .finally(() => {
        this.waiting = undefined;
      });
    return this.waiting;
  }

  close(): void {
    this.closed.abort();
  }

  private async nextEvents(): Promise<void> {
    const isFirst = this.position === undefined;
    for (;;) {
      const { nextPageToken, history } = await this.nextPage();
      // Without a token this execution is closed: the history of its successor is read from the beginning.
      this.position = nextPageToken?.length ? nextPageToken : undefined;
      if (isFirst || this.position === undefined || history?.events?.some(this.isOfInterest)) return;
      await delay(PAUSE_MS);
    }
  }

  private nextPage(): Promise<HistoryReply> {
    const { client, workflowId, position } = this;
    const { namespace } = client.options;
    const request = { namespace, execution: { workflowId }, waitNewEvent: true };
    return client.withAbortSignal(this.closed.signal, () =>
      client.workflowService.getWorkflowExecutionHistory({ ...request, ...(position && { nextPageToken: position }) }),
    );
  }
}
