/** Waiting for what a workflow says: it says something else only after an event of its history. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Client } from '@temporalio/client';

/** Whether a worker answers at all is in no history. */
const LOOK_AGAIN_MS = 500;
/** Events come in bursts; and an execution that is over may have a successor. */
const PAUSE_MS = 20;

/**
 * Looks after each event of a workflow's history, and now and then without one. Each look is a query, which costs the
 * server and the worker as much as a step of the workflow: looking all the time would slow everything else.
 * @param look returns undefined where it has to be looked again
 * @returns what `look` has found
 * @throws what `look` throws
 */
export async function afterEachEvent<T>(
  client: Client,
  workflowId: string,
  look: () => Promise<T | undefined>,
): Promise<T> {
  const history = new GrowingHistory(client, workflowId);
  try {
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
  private readonly closed = new AbortController();
  private position: Uint8Array | undefined;
  private waiting: Promise<void> | undefined;

  constructor(client: Client, workflowId: string) {
    this.client = client;
    this.workflowId = workflowId;
  }

  /** @returns once there are events that were not there at the last call; the first one only looks where the end is */
  grown(): Promise<void> {
    this.waiting ??= this.nextEvents()
      // Not there yet, or a server that is away.
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
    const { client, workflowId, position } = this;
    const { namespace } = client.options;
    const request = { namespace, execution: { workflowId }, waitNewEvent: true };
    const { nextPageToken } = await client.withAbortSignal(this.closed.signal, () =>
      client.workflowService.getWorkflowExecutionHistory({ ...request, ...(position && { nextPageToken: position }) }),
    );
    // Without a token the execution is over: its successor begins anew.
    this.position = nextPageToken?.length ? nextPageToken : undefined;
  }
}
