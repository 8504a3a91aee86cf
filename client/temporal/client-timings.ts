/** How long the client waits. */
export interface ClientTimings {
  /** Deadline of one call of the Temporal frontend. */
  readonly callMs: number;
  /** Deadline of a query, which a worker has to answer. */
  readonly queryMs: number;
  /** A poller not seen for this long counts as gone. A poll takes up to a minute. */
  readonly pollerFreshMs: number;
  /** A task that waits longer than this shows that no worker takes it, even if pollers were seen. */
  readonly backlogMs: number;
}

export const DEFAULT_CLIENT_TIMINGS: ClientTimings = {
  callMs: 10_000,
  queryMs: 2_000,
  pollerFreshMs: 70_000,
  backlogMs: 3_000,
};
