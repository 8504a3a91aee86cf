/** How patient the client is. */
export interface ClientTimings {
  /** Deadline of one call of the Temporal frontend. */
  readonly callMs: number;
  /** Deadline of a query, which a worker has to answer. */
  readonly queryMs: number;
  /** A poller that was not seen for so long counts as gone. A poll takes up to a minute. */
  readonly pollerFreshMs: number;
}

export const DEFAULT_CLIENT_TIMINGS: ClientTimings = { callMs: 10_000, queryMs: 2_000, pollerFreshMs: 70_000 };
