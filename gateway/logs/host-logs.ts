/** Reads the newest lines of a workload from the host that writes them. */
import { type HostLogsReply, hostLogsPath, hostLogsReplySchema } from '../../contracts/host/data-plane.ts';
import type { HostEntry } from '../../domain/capacity/host-entry.ts';
import { KilnError, messageOf } from '../../domain/failures.ts';

export interface HostLogsQuery {
  /** Absent: the host's newest epoch. */
  readonly epoch?: number;
  /** Entries above this number; absent: from the first. */
  readonly after?: number;
  readonly limit: number;
}

export interface HostLogsAnswer extends HostLogsReply {
  /** Whether the host may have more after these. */
  readonly more: boolean;
}

/** @returns undefined where the host has no log of it. @throws HOST_LOST where it does not answer as it should */
export type FetchHostLogs = (
  host: HostEntry,
  workloadId: string,
  query: HostLogsQuery,
) => Promise<HostLogsAnswer | undefined>;

export interface HostFetchOptions {
  /** Token of the hosts' data planes. */
  readonly token: string;
  /** For the whole answer. */
  readonly timeoutMs: number;
  /** Longest answer that is read. */
  readonly maxBytes: number;
}

/** @returns a reader of hosts' data planes over HTTP. */
export function hostLogsFetcher(options: HostFetchOptions): FetchHostLogs {
  return async (host, workloadId, query) => {
    try {
      for (let { limit } = query; ; limit = Math.ceil(limit / 4)) {
        const reply = await fetchOnce(options, host, workloadId, { ...query, limit });
        // Few but long lines: fewer of them fit.
        if (reply !== 'too long') return reply && { ...reply, more: reply.entries.length >= limit };
        if (limit === 1) throw new Error('one line of it is too long');
      }
    } catch (error) {
      const reason = messageOf(error);
      const message = `Host ${host.hostId} did not answer for the log: ${reason}`;
      throw new KilnError('HOST_LOST', message, { hostId: host.hostId }, error);
    }
  };
}

async function fetchOnce(
  options: HostFetchOptions,
  host: HostEntry,
  workloadId: string,
  query: HostLogsQuery,
): Promise<HostLogsReply | 'too long' | undefined> {
  const url = new URL(hostLogsPath(workloadId), host.url);
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, String(value));
  const reply = await fetch(url, {
    headers: { authorization: `Bearer ${options.token}` },
    redirect: 'error',
    signal: AbortSignal.timeout(options.timeoutMs),
  });
  if (reply.status !== 200) await reply.body?.cancel();
  if (reply.status === 404) return undefined;
  if (reply.status !== 200) throw new Error(`status ${reply.status}`);
  const text = await boundedText(reply, options.maxBytes);
  return text === undefined ? 'too long' : hostLogsReplySchema.parse(JSON.parse(text));
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
