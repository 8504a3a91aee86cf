/** Reads the newest lines of a workload from the host that writes them. */
import { type HostLogsReply, hostLogsPath, hostLogsReplySchema } from '../contracts/host-data-plane.ts';
import { KilnError } from '../domain/failures.ts';
import type { HostEntry } from '../domain/host-entry.ts';

export interface HostLogsQuery {
  /** Absent: the host's newest epoch. */
  readonly epoch?: number;
  /** Entries above this number; absent: from the first. */
  readonly after?: number;
  readonly limit: number;
}

/** @returns undefined where the host has no log of it. @throws HOST_LOST where it does not answer as it should */
export type FetchHostLogs = (
  host: HostEntry,
  workloadId: string,
  query: HostLogsQuery,
) => Promise<HostLogsReply | undefined>;

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
    const url = new URL(hostLogsPath(workloadId), host.url);
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, String(value));
    try {
      const reply = await fetch(url, {
        headers: { authorization: `Bearer ${options.token}` },
        redirect: 'error',
        signal: AbortSignal.timeout(options.timeoutMs),
      });
      if (reply.status === 404) {
        await reply.body?.cancel();
        return undefined;
      }
      if (!reply.ok) throw new Error(`status ${reply.status}`);
      return hostLogsReplySchema.parse(JSON.parse(await boundedText(reply, options.maxBytes)));
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new KilnError(
        'HOST_LOST',
        `Host ${host.hostId} did not answer for the log: ${reason}`,
        { hostId: host.hostId },
        error,
      );
    }
  };
}

async function boundedText(reply: Response, maxBytes: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of reply.body ?? []) {
    bytes += chunk.length;
    if (bytes > maxBytes) throw new Error(`more than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
