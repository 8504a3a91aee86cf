import { setTimeout as delay } from 'node:timers/promises';
import type { KilnClient } from '../../client/http/kiln-client.ts';
import { isFinal, STAGES } from '../../domain/stages.ts';

export interface StopAllOptions {
  /** How long the workloads may take to end, ms. */
  readonly deadlineMs: number;
  readonly pollMs: number;
  readonly reason: string;
  readonly say: (text: string) => void;
}

/**
 * Stops every workload that is not over and waits for their ends.
 * @returns ids of those that did not end in time
 */
export async function stopAllWorkloads(client: KilnClient, options: StopAllOptions): Promise<string[]> {
  const deadline = Date.now() + options.deadlineMs;
  const open = new Set(await openWorkloads(client));
  if (open.size > 0) options.say(`stopping ${open.size} workload(s)`);
  for (const id of open) await client.stopWorkload({ params: { id }, body: { reason: options.reason, waitMs: 0 } });
  while (open.size > 0 && Date.now() < deadline) {
    for (const id of open) {
      const { stage } = await client.getWorkload({ params: { id } });
      if (isFinal(stage)) open.delete(id);
    }
    if (open.size > 0) await delay(options.pollMs);
  }
  return [...open];
}

async function openWorkloads(client: KilnClient): Promise<string[]> {
  const ids: string[] = [];
  for (const stage of STAGES.filter((name) => !isFinal(name))) {
    for (let cursor: string | undefined; ; ) {
      const page = await client.listWorkloads({ query: { stage, ...(cursor === undefined ? {} : { cursor }) } });
      ids.push(...page.items.map(({ id }) => id));
      cursor = page.next;
      if (cursor === undefined) break;
    }
  }
  return ids;
}
