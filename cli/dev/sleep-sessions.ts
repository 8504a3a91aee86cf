import type { KilnClient } from '../../client/http/kiln-client.ts';
import type { SessionView } from '../../contracts/api/session-view.ts';
import { defined } from '../../domain/defined.ts';
import { messageOf } from '../../domain/failures.ts';
import type { StopAllOptions } from './stop-workloads.ts';

/** The longest wait that the API takes, ms. */
const MAX_WAIT_MS = 60_000;

/**
 * Lets every open session give up its VM, once its run has ended and its workspace is in the store: it goes on with its
 * files at the next start.
 * @returns those that still have a VM after that time, each with what the store has of it
 */
export async function sleepAllSessions(
  client: KilnClient,
  { deadlineMs, say }: Pick<StopAllOptions, 'deadlineMs' | 'say'>,
): Promise<string[]> {
  const signal = AbortSignal.timeout(deadlineMs);
  const waitMs = Math.min(deadlineMs, MAX_WAIT_MS);
  const open = await openSessions(client, signal);
  if (open.length > 0) say(`letting ${open.length} session(s) sleep`);
  const left = await Promise.all(
    open.map(async ({ thread, project }) => {
      const name = `${project}/${thread}`;
      try {
        const view = await client.sleepSession(
          { params: { thread }, query: { project }, body: { waitMs } },
          { signal },
        );
        return isAsleep(view) ? [] : [`${name} (${savedOf(view)})`];
      } catch (error) {
        if (error !== signal.reason) say(`${name}: ${messageOf(error)}`);
        return [name];
      }
    }),
  );
  return left.flat();
}

const isAsleep = ({ tier }: SessionView) => ['new', 'cold', 'closed', 'expired'].includes(tier);

function savedOf({ saved, turns }: SessionView): string {
  return saved === undefined ? 'not saved' : `saved up to turn ${saved.turn} of ${turns}`;
}

async function openSessions(client: KilnClient, signal: AbortSignal): Promise<{ thread: string; project: string }[]> {
  const found: { thread: string; project: string }[] = [];
  for (let cursor: string | undefined; ; ) {
    const page = await client.listSessions({ query: defined({ cursor }) }, { signal });
    found.push(
      ...page.items.filter(({ tier, closedAt }) => tier !== 'closed' && tier !== 'expired' && closedAt === undefined),
    );
    cursor = page.next;
    if (cursor === undefined) return found;
  }
}
