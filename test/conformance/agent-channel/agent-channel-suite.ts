import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AgentChannel } from '../../../ports/guest-agent.ts';
import { type Bench, freshId, type GuestUnderTest, runIn } from '../../support/guest/guest-under-test.ts';
import { describeExecs } from './agent-channel-execs.ts';
import { describeLeftovers } from './agent-channel-leftovers.ts';
import { describeStreams } from './agent-channel-streams.ts';
import { describeTars } from './agent-channel-tars.ts';
import { describeWorkspaces } from './agent-channel-workspaces.ts';

export interface AgentSuite {
  readonly name: string;
  /** Whether the guest has a clock of its own, which `configure` sets. */
  readonly ownClock: boolean;
  /** Whether the guest can give its execs control groups. */
  readonly groups: boolean;
  start(): Promise<GuestUnderTest>;
}

/** The rules of the agent channel, for any guest. */
export function describeAgentChannel(suite: AgentSuite): void {
  describe(suite.name, () => {
    let guest: GuestUnderTest;
    let agent: AgentChannel;
    const bench: Bench = {
      guest: () => guest,
      agent: () => agent,
      async reattach() {
        await agent.detach();
        agent = await guest.attach();
        return agent;
      },
    };

    beforeAll(async () => {
      guest = await suite.start();
      agent = await guest.attach();
    });
    afterAll(async () => {
      await agent?.detach();
      await guest?.destroy();
    });

    describeIdentity(bench, suite.ownClock);
    describeExecs(bench);
    describeLeftovers(bench, suite.groups);
    describeTars(bench);
    describeWorkspaces(bench);
    describeStreams(bench);
    describeWire(bench);

    it('shutdown is confirmed and ends the guest', async () => {
      await agent.shutdown();
      await guest.ended();
      await agent.closed;
      await expect(agent.ping()).rejects.toMatchObject({ code: 'AGENT_LOST' });
    });
  });
}

function describeIdentity(bench: Bench, ownClock: boolean): void {
  it('says hello and answers ping', async () => {
    expect(bench.agent().hello).toMatchObject({ protocol: 1, bootId: expect.stringMatching(/^[0-9a-f]{32}$/) });
    await bench.agent().ping();
  });

  it('configure sets host name, machine id and, where it has one, the clock', async () => {
    const wallClockMs = ownClock ? Date.parse('2031-05-04T03:02:01Z') : Date.now();
    const identity = { hostname: 'guest-under-test', machineId: randomBytes(16).toString('hex'), wallClockMs };
    await bench.agent().configure({ ...identity, seedHex: randomBytes(32).toString('hex') });
    const { stdout } = await runIn(bench.agent(), [
      'sh',
      '-c',
      'hostname; cat /etc/machine-id /etc/hostname; date +%Y',
    ]);
    const year = String(new Date(wallClockMs).getUTCFullYear());
    expect(stdout.split('\n')).toEqual(['guest-under-test', identity.machineId, 'guest-under-test', year, '']);
  });

  it('configure mounts the workspace, and a second time finds it with what is in it', async () => {
    const identity = { hostname: 'guest-under-test', machineId: 'c'.repeat(32), seedHex: 'd'.repeat(64) };
    const mounts = ['grep', '-c', ' /workspace ', '/proc/self/mounts'];
    await bench.agent().configure({ ...identity, wallClockMs: Date.now() });
    await runIn(bench.agent(), ['sh', '-c', 'echo kept > /workspace/kept']);
    await bench.agent().configure({ ...identity, wallClockMs: Date.now() });
    expect((await runIn(bench.agent(), ['cat', '/workspace/kept'])).stdout).toBe('kept\n');
    expect((await runIn(bench.agent(), mounts)).stdout).toBe('1\n');
  });

  it('configure refuses what is no identity', async () => {
    const good = { hostname: 'g', machineId: 'a'.repeat(32), seedHex: 'b'.repeat(64), wallClockMs: Date.now() };
    for (const bad of [{ hostname: 'a b' }, { hostname: '' }, { machineId: 'short' }]) {
      await expect(bench.agent().configure({ ...good, ...bad })).rejects.toMatchObject({ code: 'SPEC_INVALID' });
    }
  });

  it('usage tells memory and CPU', async () => {
    const before = await bench.agent().usage();
    await runIn(bench.agent(), ['node', '-e', 'const end = Date.now() + 200; while (Date.now() < end);']);
    const after = await bench.agent().usage();
    expect(before.memUsedBytes).toBeGreaterThan(0);
    expect(before.memUsedBytes).toBeLessThan(before.memTotalBytes);
    expect(after.cpuMs).toBeGreaterThan(before.cpuMs);
  });
}

function describeWire(bench: Bench): void {
  it('a hundred attaches find the same guest', async () => {
    const { bootId } = bench.agent().hello;
    for (let n = 0; n < 100; n += 1) {
      const agent = await bench.reattach();
      expect(agent.hello.bootId).toBe(bootId);
    }
    await bench.agent().ping();
  });

  const LEFTOVERS: [string, Buffer][] = [
    ['nothing', Buffer.alloc(0)],
    ['text', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
    ['a length and no frame', Buffer.from([0, 0, 0x7f])],
    ['half of a large frame', Buffer.concat([Buffer.from([0, 0, 0x7f, 0xfc, 6, 0, 0, 0, 1]), randomBytes(100)])],
    ['half of an attach', Buffer.from('KILN-ATTACH-v1\r\nhalf')],
    ['100 KB of noise', randomBytes(100_000)],
  ];
  it.each(LEFTOVERS)('an attach works after %s on the wire', async (_what, leftover) => {
    const { bootId } = bench.agent().hello;
    await bench.agent().detach();
    const wire = await bench.guest().openWire();
    wire.on('error', () => {});
    await new Promise<void>((resolve) => wire.end(leftover, () => resolve()));
    wire.destroy();
    const agent = await bench.reattach();
    expect(agent.hello.bootId).toBe(bootId);
    expect(await runIn(agent, ['echo', 'well'])).toMatchObject({ stdout: 'well\n', code: 0 });
  });

  it('an attach works after a host that left in the middle of both directions', async () => {
    const agent = bench.agent();
    const handle = await agent.exec({ execId: freshId(), argv: ['cat', '/dev/zero'], output: 'ring' });
    for await (const piece of handle.output) if (piece.offset > 100_000) break;
    const next = await bench.reattach();
    const again = await next.attachExec(handle.execId);
    await again.signal('SIGKILL');
    for await (const _ of again.output);
    expect(await again.exit).toMatchObject({ signal: 'SIGKILL' });
  });
}
