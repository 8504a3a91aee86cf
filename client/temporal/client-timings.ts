/** How patient the client is. */
export interface ClientTimings {
  /** Deadline of one call of the Temporal frontend. */
  readonly callMs: number;
  /** Deadline of a query, which a worker has to answer. */
  readonly queryMs: number;
  /** A poller that was not seen for so long counts as gone. A poll takes up to a minute. */
  readonly pollerFreshMs: number;
  /** A task that waits longer in a queue says that nobody takes it, whatever was seen of pollers. */
  readonly backlogMs: number;
}

export const DEFAULT_CLIENT_TIMINGS: ClientTimings = {
  callMs: 10_000,
  queryMs: 2_000,
  pollerFreshMs: 70_000,
  backlogMs: 3_000,
};
