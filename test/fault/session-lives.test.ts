/** A few of the random lives of sessions that `npm run chaos -- sessions` makes: on processes, with servers that are killed. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { runLives } from '../../chaos/sessions/run-lives.ts';
import { type Servers, startOwnServers } from '../support/servers/servers.global.ts';
import { quietRuntime } from '../support/workers/kiln-harness.ts';

const SEEDS = [1, 2, 3];
/** A life says by itself where it stands when this is over. */
const LIFE_MS = 240_000;
const SETTLE_MS = 30_000;

let servers: Servers;
beforeAll(async () => {
  quietRuntime();
  servers = await startOwnServers();
});
afterAll(() => servers.stop());

it(
  'workspaces are what a model says after every run, whatever is killed, and nothing saved is lost',
  async () => {
    const { wrong, counts } = await runLives(SEEDS, { servers, guests: 'fake', lifeMs: LIFE_MS, settleMs: SETTLE_MS });
    console.log(`Random lives of sessions, seeds ${SEEDS.join(', ')}: ${JSON.stringify(counts)}`);
    expect(wrong).toEqual([]);
    expect(counts.compared).toBeGreaterThan(20);
  },
  2 * LIFE_MS,
);
