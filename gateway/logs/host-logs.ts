/** Reads the newest lines of a workload from the host that writes them, and waits there for the next lines. */
import type { z } from 'zod';
import {
  type HostFollowReply,
  type HostLogsReply,
  hostFollowPath,
  hostFollowReplySchema,
  hostLogsPath,
  hostLogsReplySchema,
} from '../../contracts/host/data-plane.ts';
import type { HostEntry } from '../../domain/capacity/host-entry.ts';
import { KilnError, messageOf } from '../../domain/failures.ts';

export interface HostLogsQuery {
  /** Absent: the host's newest epoch. */
  readonly epoch?: number;
  /** Entries above this number; absent: from the first. */
  readonly after?: number;
  readonly limit: number;
}

export interface HostFollowQuery extends HostLogsQuery {
  /** Mark of the previous answer: the host answers at once where its mark has changed since. */
  readonly mark?: string;
  /** How long the host may hold the request, ms. */
  readonly waitMs: number;
}

/** Whether the host may have more after these. */
type WithMore<Reply> = Reply & { readonly more: boolean };

export type HostLogsAnswer = WithMore<HostLogsReply>;
export type HostFollowAnswer = WithMore<HostFollowReply>;

/** @returns undefined where the host has no log of it. @throws HOST_LOST where its answer fails or is invalid */
export type FetchHostLogs = (
  host: HostEntry,
  workloadId: string,
  query: HostLogsQuery,
) => Promise<HostLogsAnswer | undefined>;

/**
 * Resolves when there are entries, when the mark differs from the query's, or when the time is over.
 * @throws HOST_LOST where the answer fails or is invalid, or the host already holds as many readers as it may
 */
export type FollowHostLogs = (
  host: HostEntry,
  workloadId: string,
  query: HostFollowQuery,
  signal: AbortSignal,
) => Promise<HostFollowAnswer>;

/** The parts of hosts' data planes that return logs. */
export interface HostLogsApi {
  readonly fetch: FetchHostLogs;
  readonly follow: FollowHostLogs;
}

export interface HostFetchOptions {
  /** Token of the hosts' data planes. */
  readonly token: string;
  /** For the whole answer, ms; in addition to the time that the host was asked to wait. */
  readonly timeoutMs: number;
  /** Longest answer that is read. */
  readonly maxBytes: number;
}

/** @returns the data planes of hosts over HTTP. */
export function hostLogsOverHttp(options: HostFetchOptions): HostLogsApi {
  return {
    fetch: (host, workloadId, query) =>
      asked(host, query, (asking) => {
        const signal = AbortSignal.timeout(options.timeoutMs);
        return call(options, urlOf(host, hostLogsPath(workloadId), asking), hostLogsReplySchema, signal);
      }),
    follow: async (host, workloadId, query, signal) => {
      const answer = await asked(host, query, (asking) => {
        const late = AbortSignal.any([signal, AbortSignal.timeout(query.waitMs + options.timeoutMs)]);
        return call(options, urlOf(host, hostFollowPath(workloadId), asking), hostFollowReplySchema, late);
      });
      if (answer === undefined) throw lost(host, new Error('it cannot be waited at'));
      return answer;
    },
  };
}

/** Asks again for fewer entries where one answer would be too long. */
async function asked<Reply extends { entries: readonly unknown[] }>(
  host: HostEntry,
  query: HostLogsQuery,
  ask: (query: HostLogsQuery) => Promise<Reply | 'too long' | undefined>,
): Promise<WithMore<Reply> | undefined> {
  try {
    for (let { limit } = query; ; limit = Math.ceil(limit / 4)) {
      const reply = await ask({ ...query, limit });
      if (reply !== 'too long') return reply && { ...reply, more: reply.entries.length >= limit };
      if (limit === 1) throw new Error('one line of it is too long');
    }
  } catch (error) {
    throw lost(host, error);
  }
}

function lost({ hostId }: HostEntry, error: unknown): KilnError {
  return new KilnError(
    'HOST_LOST',
    `Host ${hostId} did not answer for the log: ${messageOf(error)}`,
    { hostId },
    error,
  );
}

function urlOf(host: HostEntry, path: string, query: HostLogsQuery): URL {
  const url = new URL(path, host.url);
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, String(value));
  return url;
}

async function call<Reply>(
  { token, maxBytes }: HostFetchOptions,
  url: URL,
  schema: z.ZodType<Reply>,
  signal: AbortSignal,
): Promise<Reply | 'too long' | undefined> {
  const reply = await fetch(url, { headers: { authorization: `Bearer ${token}` }, redirect: 'error', signal });
  if (reply.status !== 200) await reply.body?.cancel();
  if (reply.status === 404) return undefined;
  if (reply.status !== 200) throw new Error(`status ${reply.status}`);
  const text = await boundedText(reply, maxBytes);
  return text === undefined ? 'too long' : schema.parse(JSON.parse(text));
}

/** @returns undefined where there is more than `maxBytes`. */
async function boundedText(reply: Response, maxBytes: number): Promise<string | undefined> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of reply.body ?? []) {
    bytes += chunk.length;
    if (bytes > maxBytes) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
