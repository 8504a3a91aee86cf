import { setTimeout as delay } from 'node:timers/promises';
import type { KilnClient } from '../../client/http/kiln-client.ts';
import { defined } from '../../domain/defined.ts';
import { messageOf } from '../../domain/failures.ts';
import { isFinal, STAGES } from '../../domain/workload/stages.ts';

export interface StopAllOptions {
  /** How long the workloads may take to end, ms. */
  readonly deadlineMs: number;
  readonly pollMs: number;
  readonly reason: string;
  readonly say: (text: string) => void;
}

/**
 * Stops every workload that is not over and waits for their ends.
 * @returns ids of those that did not end in time; failed requests are reported
 */
export async function stopAllWorkloads(client: KilnClient, options: StopAllOptions): Promise<string[]> {
  const signal = AbortSignal.timeout(options.deadlineMs);
  const open = new Set(await openWorkloads(client));
  if (open.size > 0) options.say(`stopping ${open.size} workload(s)`);
  const unasked = new Set(open);
  const troubles = new Map<string, string>();
  const ask = async (id: string): Promise<void> => {
    const params = { id };
    if (unasked.has(id)) await client.stopWorkload({ params, body: { reason: options.reason, waitMs: 0 } }, { signal });
    unasked.delete(id);
  };
  const look = async (id: string): Promise<void> => {
    const { stage } = await client.getWorkload({ params: { id } }, { signal });
    if (isFinal(stage)) open.delete(id);
  };
  do {
    for (const step of [ask, look]) {
      for (const id of open) {
        // A workload whose request fails must not keep the others from being stopped: it is tried again.
        await step(id).catch((error: unknown) => {
          if (error !== signal.reason) troubles.set(id, messageOf(error));
        });
      }
    }
    if (open.size > 0) await delay(options.pollMs, undefined, { signal }).catch(() => undefined);
  } while (open.size > 0 && !signal.aborted);
  for (const [id, trouble] of troubles) if (open.has(id)) options.say(`${id}: ${trouble}`);
  return [...open];
}

async function openWorkloads(client: KilnClient): Promise<string[]> {
  const ids: string[] = [];
  for (const stage of STAGES.filter((name) => !isFinal(name))) {
    for (let cursor: string | undefined; ; ) {
      const page = await client.listWorkloads({ query: { stage, ...defined({ cursor }) } });
      ids.push(...page.items.map(({ id }) => id));
      cursor = page.next;
      if (cursor === undefined) break;
    }
  }
  return ids;
}
