/** What many sessions at rest do when they are asked for something. */
import type { KilnClient, Session } from '../../../client/http/index.ts';
import type { CountingProxy } from '../../../test/support/servers/counting-proxies.ts';
import type { Measurement } from '../../figure.ts';
import type { GroupOptions } from '../../group-options.ts';
import { echoOnce, untilWarm } from '../../session-calls.ts';

const WAKES = 100;
const SLOW_MS = 2_000;
/** Messages with a slow store, and with the store as it is. */
const MESSAGES = 20;

type Options = Pick<GroupOptions, 'say' | 'signal'>;

/** A hundred sessions that rest get a message at the same moment. The rival is one such message at a time. */
export async function measureManyWakes(all: readonly Session[], { say, signal }: Options): Promise<Measurement> {
  const woken = all.slice(0, WAKES);
  const kiln = await Promise.all(woken.map((session) => echoOnce(session, signal)));
  for (const session of woken) await untilWarm(session, signal);
  const samples: number[] = [];
  for (const session of woken) samples.push(await echoOnce(session, signal));
  for (const session of woken) await untilWarm(session, signal);
  say(`session-rest: ${woken.length} wakes at once`);
  return {
    name: `session-fake-${woken.length}-wakes-at-once`,
    unit: 'ms',
    kiln,
    rival: { words: 'the same wakes, one after another', samples },
  };
}

/** Messages to sessions that rest while each answer of the store comes 2 s late, and a first message of a thread. */
export async function measureSlowStore(
  client: KilnClient,
  all: readonly Session[],
  store: Pick<CountingProxy, 'slowBy'>,
  { say, signal }: Options,
): Promise<readonly Measurement[]> {
  const asked = all.slice(0, MESSAGES);
  const oneByOne = async (sessions: readonly Session[]): Promise<number[]> => {
    const times: number[] = [];
    for (const session of sessions) times.push(await echoOnce(session, signal));
    for (const session of sessions) await untilWarm(session, signal);
    return times;
  };
  const begin = (thread: string) => oneByOne([client.session(thread)]);
  const samples = await oneByOne(asked);
  const beginsAsEver = await begin('begins-as-ever');
  store.slowBy(SLOW_MS);
  try {
    const kiln = await oneByOne(asked);
    const begins = await begin('begins-slowly');
    say(`session-rest: ${asked.length} messages while the store answers ${SLOW_MS} ms late`);
    const words = 'the same while the store answers as ever';
    return [
      { name: 'session-store-slow-warm', unit: 'ms', kiln, rival: { words, samples } },
      { name: 'session-store-slow-first', unit: 'ms', kiln: begins, rival: { words, samples: beginsAsEver } },
    ];
  } finally {
    store.slowBy(0);
  }
}
