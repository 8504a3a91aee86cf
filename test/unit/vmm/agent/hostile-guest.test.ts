import { Readable } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { AgentChannel } from '../../../../ports/guest-agent.ts';
import { connectAgent } from '../../../../vmm/agent/connect-agent.ts';
import { FRAME, WINDOW } from '../../../../vmm/agent/frames.ts';
import { type ScriptedGuest, scriptedGuest } from '../../../support/guest/scripted-guest.ts';

async function attached(requestMs = 10_000): Promise<{ guest: ScriptedGuest; agent: AgentChannel }> {
  const guest = scriptedGuest();
  const agent = await connectAgent({ connect: async () => guest.host, deadlineMs: 10_000, requestMs });
  return { guest, agent };
}

const uint64 = (...values: number[]): Buffer => {
  const bytes = Buffer.alloc(values.length * 8);
  values.forEach((value, n) => {
    bytes.writeBigUInt64BE(BigInt(value), n * 8);
  });
  return bytes;
};
const output = (offset: number, text: string): Buffer =>
  Buffer.concat([Buffer.from([1]), uint64(offset), Buffer.from(text)]);

describe('a guest that breaks the protocol', () => {
  it.each<[string, (guest: ScriptedGuest) => void]>([
    ['a frame for a stream that never was', ({ send }) => send(FRAME.data, 99, 'x')],
    ['a frame without a stream', ({ send }) => send(FRAME.data, 0, 'x')],
    ['a second hello', ({ send }) => send(FRAME.hello, 0, '{}')],
    ['an odd stream id', ({ send }) => send(FRAME.open, 3, '{}')],
    ['stream id 0', ({ send }) => send(FRAME.open, 0, '{}')],
    ['an open that is no JSON', ({ send }) => send(FRAME.open, 2, '{')],
    ['a name that is none', ({ send }) => send(FRAME.open, 2, '{"kind":"egress","name":"a b","port":443}')],
    ['a port that is none', ({ send }) => send(FRAME.open, 2, '{"kind":"egress","name":"a","port":0}')],
    ['an answer of the wrong shape', ({ send }) => send(FRAME.done, 1, '{"memUsedBytes":-1}')],
    ['an answer of another kind', ({ send }) => send(FRAME.opened, 1, '{}')],
    ['a refusal of the wrong shape', ({ send }) => send(FRAME.reset, 1, '[]')],
    ['credit of the wrong size', ({ send }) => send(FRAME.credit, 1, 'abc')],
    ['more credit than the window', ({ send }) => send(FRAME.credit, 1, Buffer.from([1, 0, 0, 0]))],
    ['a goodbye', ({ send }) => send(FRAME.goodbye, 0, '{"code":"AGENT_PROTOCOL","message":"enough"}')],
    ['bytes that are no frame', ({ wire }) => void wire.write(Buffer.alloc(64, 0xff))],
  ])('%s ends the channel and every request', async (_what, misbehave) => {
    const { guest, agent } = await attached();
    const request = agent.usage();
    await guest.receive(FRAME.open);
    misbehave(guest);
    await expect(request).rejects.toMatchObject({ code: 'AGENT_PROTOCOL' });
    expect(await agent.closed).toMatchObject({ code: 'AGENT_PROTOCOL' });
    await expect(agent.ping()).rejects.toMatchObject({ code: 'AGENT_PROTOCOL' });
    expect(guest.host.destroyed).toBe(true);
  });

  it.each<[string, (guest: ScriptedGuest) => void]>([
    ['output that does not follow', ({ send }) => send(FRAME.output, 1, output(5, 'x'))],
    [
      'output twice',
      ({ send }) => {
        for (const at of [0, 0]) send(FRAME.output, 1, output(at, 'x'));
      },
    ],
    [
      'output of no stream',
      ({ send }) => send(FRAME.output, 1, Buffer.concat([Buffer.from([3]), uint64(0), Buffer.from('x')])),
    ],
    ['output without bytes', ({ send }) => send(FRAME.output, 1, output(0, ''))],
    ['an offset beyond all numbers', ({ send }) => send(FRAME.gap, 1, Buffer.alloc(16, 0xfe))],
    ['a gap of the wrong size', ({ send }) => send(FRAME.gap, 1, 'abc')],
    ['an exit of the wrong shape', ({ send }) => send(FRAME.exit, 1, '{"code":"0"}')],
    ['data', ({ send }) => send(FRAME.data, 1, 'x')],
    ['a second acceptance', ({ send }) => send(FRAME.opened, 1, '{"pid":7,"existed":false}')],
    ['more output than the window', ({ send }) => floodOutput(send)],
  ])('%s on an exec ends output and exit', async (_what, misbehave) => {
    const { guest, agent } = await attached();
    const starting = agent.exec({ execId: 'e', argv: ['x'], output: 'wait' });
    await guest.receive(FRAME.open);
    guest.send(FRAME.opened, 1, '{"pid":7,"existed":false}');
    const handle = await starting;
    misbehave(guest);
    await expect(handle.exit).rejects.toMatchObject({ code: 'AGENT_PROTOCOL' });
    await expect(readAll(handle.output)).rejects.toMatchObject({ code: 'AGENT_PROTOCOL' });
  });

  it('an exit before the acceptance ends the start', async () => {
    const { guest, agent } = await attached();
    const starting = agent.exec({ execId: 'e', argv: ['x'], output: 'wait' });
    await guest.receive(FRAME.open);
    guest.send(FRAME.exit, 1, '{"code":0,"signal":null,"timedOut":false}');
    await expect(starting).rejects.toMatchObject({ code: 'AGENT_PROTOCOL' });
  });

  it('whatever frames it sends, the channel ends in order', async () => {
    const anyFrame = fc.record({
      type: fc.constantFrom(...Object.values(FRAME)),
      stream: fc.integer({ min: 0, max: 8 }),
      payload: fc.oneof(
        fc.constantFrom(
          '{}',
          '{"pid":1,"existed":true}',
          '{"code":"NOT_FOUND","message":""}',
          '{"code":0,"signal":null,"timedOut":false}',
        ),
        fc.constant('{"kind":"egress","name":"a.example","port":443}'),
        fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
      ),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(anyFrame, { maxLength: 30 }), async (frames) => {
        const { guest, agent } = await attached();
        agent.serveEgress(async () => ({ allow: false, reason: 'test' }));
        const tar = agent.getTar('/x', []);
        const work = [
          agent.usage(),
          agent.listExecs(),
          agent.connectTcp(1),
          agent.exec({ execId: 'e', argv: ['x'], output: 'ring' }),
        ];
        const settled = Promise.allSettled([...work, readAll(tar)]);
        for (const { type, stream, payload } of frames) guest.send(type, stream, payload);
        guest.wire.write(Buffer.alloc(32, 0xff));
        expect(await agent.closed).toMatchObject({ code: 'AGENT_PROTOCOL' });
        await settled;
      }),
      { numRuns: 200 },
    );
  });
});

function floodOutput(send: ScriptedGuest['send']): void {
  const piece = 'x'.repeat(16 * 1024);
  for (let at = 0; at <= WINDOW; at += piece.length) send(FRAME.output, 1, output(at, piece));
}

async function readAll(source: AsyncIterable<unknown>): Promise<number> {
  let count = 0;
  for await (const _ of source) count += 1;
  return count;
}

describe('a guest that goes', () => {
  it('is AGENT_LOST for every request, output and stream', async () => {
    const { guest, agent } = await attached();
    const usage = agent.usage();
    const ping = agent.ping();
    const tar = readAll(agent.getTar('/x', []));
    const starting = agent.exec({ execId: 'e', argv: ['x'], output: 'wait' });
    await guest.receive(FRAME.data);
    guest.wire.end();
    for (const lost of [usage, ping, tar, starting]) await expect(lost).rejects.toMatchObject({ code: 'AGENT_LOST' });
    expect(await agent.closed).toMatchObject({ code: 'AGENT_LOST' });
    await expect(readAll(agent.getTar('/x', []))).rejects.toMatchObject({ code: 'AGENT_LOST' });
  });

  it('output that came before is handed out before the loss is told', async () => {
    const { guest, agent } = await attached();
    const starting = agent.exec({ execId: 'e', argv: ['x'], output: 'wait' });
    await guest.receive(FRAME.open);
    guest.send(FRAME.opened, 1, '{"pid":7,"existed":false}');
    const handle = await starting;
    guest.send(FRAME.output, 1, output(0, 'last words'));
    guest.wire.end();
    await agent.closed;
    const reader = handle.output[Symbol.asyncIterator]();
    expect(await reader.next()).toMatchObject({ value: { data: Buffer.from('last words') } });
    await expect(reader.next()).rejects.toMatchObject({ code: 'AGENT_LOST' });
  });

  it('a request without an answer is AGENT_TIMEOUT, and the channel stays', async () => {
    const { guest, agent } = await attached(20);
    for (const request of [agent.usage(), agent.ping(), agent.connectTcp(80), agent.attachExec('e')]) {
      await expect(request).rejects.toMatchObject({ code: 'AGENT_TIMEOUT' });
    }
    const ping = agent.ping();
    for (const frame of guest.received.filter(({ type }) => type === FRAME.ping))
      guest.send(FRAME.pong, 0, frame.payload);
    guest.wire.on('data', () => {
      for (const { type, payload } of guest.received) if (type === FRAME.ping) guest.send(FRAME.pong, 0, payload);
    });
    await ping;
    await agent.detach();
  });
});

describe('letting go of a guest', () => {
  it('that takes nothing any more ends all the same', async () => {
    const { guest, agent } = await attached(50);
    guest.wire.pause();
    const tar = agent.putTar('/x', Readable.from([Buffer.alloc(WINDOW)]));
    await agent.detach();
    await expect(tar).rejects.toMatchObject({ code: 'AGENT_LOST' });
    expect(guest.host.destroyed).toBe(true);
  });
});

describe('a connection that is reset in the moment in which it is made', () => {
  it('fails for its owner and for nobody else', async () => {
    const { guest, agent } = await attached();
    const connecting = agent.connectTcp(80);
    await guest.receive(FRAME.open);
    guest.wire.cork();
    guest.send(FRAME.opened, 1, '{}');
    guest.send(FRAME.reset, 1, '{"code":"ECONNRESET","message":""}');
    guest.wire.uncork();
    await expect(readAll(await connecting)).rejects.toMatchObject({ code: 'ECONNRESET' });
    await agent.detach();
  });
});

describe('codes of refusals', () => {
  it.each([
    ['NOT_FOUND', 'NOT_FOUND'],
    ['DISK_FULL', 'DISK_FULL'],
    ['HOST_LOST', 'INTERNAL'],
    ['no code', 'INTERNAL'],
  ])('a guest that says %s is heard as %s', async (said, heard) => {
    const { guest, agent } = await attached();
    const request = agent.usage();
    await guest.receive(FRAME.open);
    guest.send(FRAME.reset, 1, JSON.stringify({ code: said, message: 'because' }));
    await expect(request).rejects.toMatchObject({ code: heard, message: expect.stringContaining('because') });
    await agent.detach();
  });
});
