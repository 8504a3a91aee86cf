/** What an agent can do is what its hello announces; what it cannot is refused before anything is sent. */
import { describe, expect, it } from 'vitest';
import type { AgentChannel } from '../../../../ports/guest-agent.ts';
import { connectAgent } from '../../../../vmm/agent/connect-agent.ts';
import { encodeFrame, encodeHelloRecord, FRAME } from '../../../../vmm/agent/frames.ts';
import { attached, plainHello, scriptedGuest } from '../../../support/guest/scripted-guest.ts';

const OPENED = '{"pid":7,"existed":false}';

function attachTo(hello: object): Promise<AgentChannel> {
  const { host } = scriptedGuest((wire, nonce) => {
    wire.write(encodeHelloRecord(nonce));
    wire.write(encodeFrame(FRAME.hello, 0, Buffer.from(JSON.stringify(hello))));
  });
  return connectAgent({ connect: async () => host, deadlineMs: 10_000 });
}

describe('the features of a hello', () => {
  it('are those of the channel', async () => {
    const { agent } = await attached(60_000, ['exec-cgroup', 'from-the-future']);
    expect([...agent.features]).toEqual(['exec-cgroup', 'from-the-future']);
    await agent.detach();
  });

  it('are none where the agent announces none', async () => {
    const { features: _, ...older } = plainHello;
    const agent = await attachTo(older);
    expect(agent.features.size).toBe(0);
    await agent.detach();
  });

  it('are at most 64 of at most 64 characters', async () => {
    const names = Array.from({ length: 64 }, (_, n) => String(n).padStart(64, 'x'));
    const agent = await attachTo({ ...plainHello, features: names });
    expect([...agent.features]).toEqual(names);
    await agent.detach();
    for (const features of [[...names, 'y'], ['x'.repeat(65)], [7], 'exec-cgroup', null]) {
      await expect(attachTo({ ...plainHello, features })).rejects.toMatchObject({ code: 'AGENT_PROTOCOL' });
    }
  });
});

describe('a request for what the agent cannot do', () => {
  it('is UNSUPPORTED, says how to mend it, and the agent hears nothing of it', async () => {
    const { guest, agent } = await attached();
    const request = { execId: 'run-1', argv: ['x'], output: 'wait', killLeftoversAfterMs: 1000 } as const;
    await expect(agent.exec(request)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('`kiln image build NAME`'),
      details: { feature: 'exec-cgroup' },
    });
    // The channel lives on, and what the agent sees first is the next request.
    const { killLeftoversAfterMs: _, ...plain } = request;
    const starting = agent.exec(plain);
    const { payload, stream } = await guest.receive(FRAME.open);
    expect([JSON.parse(payload.toString()).kind, stream]).toEqual(['exec', 1]);
    guest.send(FRAME.opened, 1, OPENED);
    await starting;
    await agent.detach();
  });
});

it('the usage of an exec is UNSUPPORTED by an older agent, which hears nothing of it', async () => {
  const { guest, agent } = await attached(60_000, ['exec-cgroup']);
  const attaching = agent.attachExec('e');
  await guest.receive(FRAME.open);
  guest.send(FRAME.opened, 1, OPENED);
  const handle = await attaching;
  await expect(handle.usage()).rejects.toMatchObject({ code: 'UNSUPPORTED', details: { feature: 'exec-usage' } });
  expect(guest.received.filter(({ type }) => type === FRAME.open)).toHaveLength(1);
  await agent.detach();
});

describe('a request for what the agent can do', () => {
  it('tells what an exec uses', async () => {
    const { guest, agent } = await attached(60_000, ['exec-usage']);
    const attaching = agent.attachExec('e');
    await guest.receive(FRAME.open);
    guest.send(FRAME.opened, 1, OPENED);
    const asking = (await attaching).usage();
    guest.send(FRAME.done, 3, '{"cpuMs":12,"processes":3}');
    expect(await asking).toEqual({ cpuMs: 12, processes: 3 });
    expect(JSON.parse(guest.received.at(-1)?.payload.toString() ?? '')).toEqual({ kind: 'exec-usage', execId: 'e' });
    await agent.detach();
  });

  it.each([0, 1000])('leftovers are killed after %s ms', async (killLeftoversAfterMs) => {
    const { guest, agent } = await attached(60_000, ['exec-cgroup']);
    const starting = agent.exec({ execId: 'e', argv: ['x'], output: 'wait', killLeftoversAfterMs });
    const { payload } = await guest.receive(FRAME.data);
    expect(JSON.parse(payload.toString())).toEqual({ argv: ['x'], output: 'wait', killLeftoversAfterMs });
    guest.send(FRAME.opened, 1, OPENED);
    await starting;
    await agent.detach();
  });
});
