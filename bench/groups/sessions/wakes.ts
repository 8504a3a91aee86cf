import { readFile } from 'node:fs/promises';
import type { KilnClient, Session } from '../../../client/http/index.ts';
import { DEFAULT_HOST_SETTINGS } from '../../../host/host-settings.ts';
import { parseKib } from '../../../vmm/limits/process-usage.ts';
import type { Measurement } from '../../figure.ts';
import type { GroupOptions } from '../../group-options.ts';
import { echoOnce, untilWarm } from '../../session-calls.ts';
import { type ExecRival, RIVAL } from './exec-rival.ts';

const SESSIONS = 20;
const MEM_MIB = 256;
/** Share of the memory that is available now which the guests may take. */
const MEMORY_SHARE = 0.6;
/** All of them are woken this often at most: the more samples are asked for, the more often. */
const MOST_ROUNDS = 5;

/** Many sessions that rest get a message at the same moment. */
export async function measureWakes(
  client: KilnClient,
  rival: ExecRival,
  { n, say, signal, sessions = SESSIONS }: GroupOptions,
): Promise<Measurement> {
  const count = Math.min(sessions, await roomFor(MEM_MIB));
  if (count < sessions) say(`session: this machine has memory for ${count} sessions at once, not ${sessions}`);
  const all: Session[] = [];
  for (let index = 0; index < count; index += 1) {
    const session = client.session(`wakes-${index}`, { resources: { vcpus: 1, memMib: MEM_MIB } });
    await echoOnce(session, signal);
    all.push(session);
  }
  const [kiln, samples]: [number[], number[]] = [[], []];
  for (let round = 0; round < Math.min(MOST_ROUNDS, Math.ceil(n / count)); round += 1) {
    for (const session of all) await untilWarm(session, signal);
    kiln.push(...(await Promise.all(all.map((session) => echoOnce(session, signal)))));
    samples.push(...(await Promise.all(all.map(() => rival.once()))));
  }
  for (const session of all) await session.close();
  say(`session: ${count} wakes at once`);
  const words = `${RIVAL}, as many at once, in one guest`;
  return { name: `session-${count}-wakes-at-once`, unit: 'ms', kiln, rival: { words, samples } };
}

async function roomFor(memMib: number): Promise<number> {
  const available = (parseKib(await readFile('/proc/meminfo', 'utf8'), 'MemAvailable') ?? 0) / 2 ** 20;
  const each = memMib + DEFAULT_HOST_SETTINGS.capacity.vmOverheadMib;
  return Math.max(1, Math.floor((available * MEMORY_SHARE) / each));
}
