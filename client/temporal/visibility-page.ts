/** Pages of Temporal's visibility, with cursors that are bound to their list. */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { badCursor, decodeCursor, encodeCursor } from '../../contracts/api/cursor.ts';
import type { ClientContext } from './client-context.ts';
import { withDeadline } from './temporal-calls.ts';

const pageCursor = z.object({ token: z.base64().max(6000), of: z.string().max(64) });

/** One execution as visibility knows it. */
export type Listed = NonNullable<
  Awaited<ReturnType<ClientContext['client']['workflowService']['listWorkflowExecutions']>>['executions']
>[number];
type Payloads = Readonly<Record<string, { data?: Uint8Array | null }>> | null | undefined;

/** @throws SPEC_INVALID (a cursor of another list), TEMPORAL_UNAVAILABLE */
export async function listPage(
  { client, timings }: Pick<ClientContext, 'client' | 'timings'>,
  query: string,
  { cursor, limit }: { readonly cursor?: string | undefined; readonly limit: number },
): Promise<{ items: readonly Listed[]; next?: string }> {
  const token = cursor === undefined ? undefined : tokenOf(cursor, query);
  const reply = await withDeadline(client, timings.callMs, () =>
    client.workflowService.listWorkflowExecutions({
      namespace: client.options.namespace,
      pageSize: limit,
      query,
      ...(token === undefined ? {} : { nextPageToken: Buffer.from(token, 'base64') }),
    }),
  );
  const next = reply.nextPageToken;
  return {
    items: reply.executions ?? [],
    ...(next && next.length > 0 ? { next: nextCursor(Buffer.from(next).toString('base64'), query) } : {}),
  };
}

/** The server rejects a foreign token only after its deadline, so a damaged or exchanged token is rejected here. */
function tokenOf(cursor: string, query: string): string {
  const { token, of } = decodeCursor(pageCursor, cursor);
  if (of !== bindingOf(token, query)) throw badCursor();
  return token;
}

function nextCursor(token: string, query: string): string {
  return encodeCursor({ token, of: bindingOf(token, query) });
}

/** Binds a token to its list. */
function bindingOf(token: string, query: string): string {
  return createHash('sha256').update(`${token} ${query}`).digest('hex').slice(0, 16);
}

/** @returns a string value that the default payload converter has written */
export function listedText(payloads: Payloads, name: string): string | undefined {
  const data = payloads?.[name]?.data;
  if (!data) return undefined;
  try {
    const value: unknown = JSON.parse(Buffer.from(data).toString('utf8'));
    return typeof value === 'string' ? value : undefined;
  } catch {
    return undefined;
  }
}

export function listedTime(time: { seconds?: unknown; nanos?: number | null } | null | undefined): string | undefined {
  const seconds = Number(time?.seconds ?? Number.NaN);
  return Number.isFinite(seconds)
    ? new Date(seconds * 1000 + Math.floor((time?.nanos ?? 0) / 1e6)).toISOString()
    : undefined;
}
