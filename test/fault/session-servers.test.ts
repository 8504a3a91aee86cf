/** Temporal and the object store are killed in the middle of two runs: both go on, and end as if nothing had been. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { SessionClient } from '../../client/temporal/sessions/session-client.ts';
import { type Servers, startOwnServers } from '../support/servers/servers.global.ts';
import { throughOutages } from '../support/workers/dev-stack.ts';
import { quietRuntime } from '../support/workers/kiln-harness.ts';
import { ProcessStack } from '../support/workers/process-stack.ts';
import { closeAll, ended, openGate, outputsBelow, threadNamed } from '../support/workers/session-steps.ts';

/** Servers that are killed at the same moment. */
const KILLED = [['temporal'], ['versitygw'], ['temporal', 'versitygw']] as const;
const IN_FLIGHT = ['a', 'b'];

let servers: Servers;
let stack: ProcessStack;
let sessions: SessionClient;

beforeAll(async () => {
  quietRuntime();
  servers = await startOwnServers();
  stack = await ProcessStack.start(servers);
  sessions = stack.sessions();
});
afterAll(async () => {
  await stack.close();
  await servers.stop();
});

it.each(KILLED.map((names) => [names.join(' and '), names] as const))(
  'kill -9 of %s: two runs finish, each started once, with all of their output',
  async (_what, names) => {
    const threads = IN_FLIGHT.map((one) => `${names.join('-')}-${one}`);
    for (const thread of threads) await sessions.send(threadNamed(thread), { id: 'one', command: talking(thread) });
    for (const thread of threads) await untilSaid(thread, 1);
    const vmIds = await Promise.all(threads.map(vmIdOf));
    await Promise.all(names.map((name) => servers.kill(name)));
    // Their guests go on, and their host takes what they write.
    for (const thread of threads) await untilSaid(thread, (await linesOf(thread)).length + 5);
    for (const name of names) servers.startAgain(name);
    for (const vmId of vmIds) await openGate(stack.stateDir, vmId, 'open');
    for (const thread of threads) {
      const one = await throughOutages(() => ended(sessions, threadNamed(thread), 'one'));
      expect(one).toMatchObject({ turn: 1, outcome: { as: 'finished', code: 0 } });
      const lines = await linesOf(thread);
      // Numbered by the process itself: a second one would begin again.
      expect(lines).toEqual([...lines.keys()].map((n) => (n === lines.length - 1 ? 'end' : String(n + 1))));
      await throughOutages(() => sessions.send(threadNamed(thread), { id: 'two', command: ['true'] }));
      const two = await throughOutages(() => ended(sessions, threadNamed(thread), 'two'));
      expect(two).toMatchObject({ turn: 2, outcome: { code: 0 }, vm: one.vm });
      expect(two).not.toHaveProperty('lost');
    }
  },
);

describe('afterwards', () => {
  it('nothing is left on the host, and the histories are lawful and replay', async () => {
    await throughOutages(() => closeAll(sessions));
    while ((await stack.left()).length > 0) await delay(100);
    await stack.judge();
  });
});

const talking = (thread: string) => [
  'sh',
  '-c',
  `n=0; until [ -e /tmp/open ]; do n=$((n+1)); echo "${thread} says $n."; sleep 0.05; done; echo "${thread} says end."`,
];

async function vmIdOf(thread: string): Promise<string> {
  return (await sessions.get(threadNamed(thread))).state?.place?.vmId ?? '';
}

/** What the run of a thread has written into the files of its host. */
async function linesOf(thread: string): Promise<string[]> {
  const text = await outputsBelow(stack.stateDir);
  return [...text.matchAll(new RegExp(`${thread} says (\\w+)\\.`, 'g'))].map(([, line = '']) => line);
}

async function untilSaid(thread: string, lines: number): Promise<void> {
  while ((await linesOf(thread)).length < lines) await delay(20);
}
