import type { KilnClient } from '../../client/http/kiln-client.ts';
import { defined } from '../../domain/defined.ts';
import { messageOf } from '../../domain/failures.ts';
import type { StopAllOptions } from './stop-workloads.ts';

/** Closes every session that is open. @returns threads of those that were not closed in time */
export async function closeAllSessions(
  client: KilnClient,
  { deadlineMs, say }: Pick<StopAllOptions, 'deadlineMs' | 'say'>,
): Promise<string[]> {
  const signal = AbortSignal.timeout(deadlineMs);
  const open = await openSessions(client);
  if (open.length > 0) say(`closing ${open.length} session(s)`);
  const closed = open.map(async ({ thread, project }) => {
    const { tier } = await client.closeSession({ params: { thread }, query: { project }, body: {} }, { signal });
    return tier === 'closed' || tier === 'expired' ? [] : [`${project}/${thread}`];
  });
  const left = await Promise.all(
    closed.map((closing, n) =>
      closing.catch((error: unknown) => {
        const name = `${open[n]?.project}/${open[n]?.thread}`;
        say(`${name}: ${messageOf(error)}`);
        return [name];
      }),
    ),
  );
  return left.flat();
}

async function openSessions(client: KilnClient): Promise<{ thread: string; project: string }[]> {
  const found: { thread: string; project: string }[] = [];
  for (let cursor: string | undefined; ; ) {
    const page = await client.listSessions({ query: defined({ cursor }) });
    found.push(
      ...page.items.filter(({ tier, closedAt }) => tier !== 'closed' && tier !== 'expired' && closedAt === undefined),
    );
    cursor = page.next;
    if (cursor === undefined) return found;
  }
}
