/** Whether a workload created now would run. */

import type { Readiness } from '../contracts/api/readiness.ts';
import type { HostEntry } from '../domain/capacity/host-entry.ts';
import { messageOf } from '../domain/failures.ts';
import { CONTROL_QUEUE, hostQueue } from '../domain/names.ts';

export interface ReadinessSources {
  readonly hosts: () => Promise<readonly HostEntry[]>;
  /** Whether a worker has polled a task queue lately. */
  readonly isPolled: (taskQueue: string, kind: 'workflow' | 'activity') => Promise<boolean>;
  readonly hostFreshMs: number;
  readonly now: () => number;
}

type Check = Readiness['checks'][number];

/** Never throws: a part that does not answer is not ready. */
export async function readiness(sources: ReadinessSources): Promise<Readiness> {
  const checks = await Promise.all([
    check('control worker', async () =>
      (await sources.isPolled(CONTROL_QUEUE, 'workflow'))
        ? undefined
        : `Nobody polls ${CONTROL_QUEUE}: start \`kiln worker control\`.`,
    ),
    check('host', () => hostProblem(sources)),
  ]);
  return { ready: checks.every(({ ok }) => ok), checks };
}

async function hostProblem({ hosts, isPolled, hostFreshMs, now }: ReadinessSources): Promise<string | undefined> {
  const fresh = (await hosts()).filter(({ at }) => now() - Date.parse(at) <= hostFreshMs);
  if (fresh.length === 0) return 'No host has registered lately: start `kiln worker host`.';
  const open = fresh.filter(({ draining }) => !draining);
  for (const { hostId } of open) if (await isPolled(hostQueue(hostId), 'activity')) return undefined;
  return open.length === 0 ? drained(fresh) : `${open.length} host(s) have registered, none polls its queue yet.`;
}

const SHOWN = 3;

function drained(hosts: readonly HostEntry[]): string {
  const names = hosts.slice(0, SHOWN).map(({ hostId }) => hostId);
  const more = hosts.length > SHOWN ? ` and ${hosts.length - SHOWN} more` : '';
  return `Every host that answers is drained and takes no new work: ${names.join(', ')}${more}. \`kiln host undrain ID\` ends that.`;
}

async function check(name: string, problem: () => Promise<string | undefined>): Promise<Check> {
  try {
    const detail = await problem();
    return detail === undefined ? { name, ok: true } : { name, ok: false, detail };
  } catch (error) {
    return { name, ok: false, detail: messageOf(error) };
  }
}
