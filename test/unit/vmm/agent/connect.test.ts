import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { connectAgent } from '../../../../vmm/agent/connect-agent.ts';
import { encodeFrame, encodeHelloRecord, FRAME, MAX_FRAME } from '../../../../vmm/agent/frames.ts';
import { plainHello, scriptedGuest } from '../../../support/guest/scripted-guest.ts';

const hello = (change: object = {}): Buffer =>
  encodeFrame(FRAME.hello, 0, Buffer.from(JSON.stringify({ ...plainHello, ...change })));

describe('attaching to an agent', () => {
  it('gives the hello', async () => {
    const { host } = scriptedGuest();
    const agent = await connectAgent({ connect: async () => host, deadlineMs: 10_000 });
    expect(agent.hello).toEqual(plainHello);
    await agent.detach();
  });

  it('tries again where a connection ends before the hello', async () => {
    let tries = 0;
    const connect = async () => {
      tries += 1;
      if (tries === 1) throw new Error('nobody listens yet');
      return scriptedGuest(tries === 2 ? (wire) => void wire.end() : undefined).host;
    };
    const agent = await connectAgent({ connect, deadlineMs: 10_000, retryMs: 1 });
    expect(tries).toBe(3);
    await agent.detach();
  });

  it('asks again where the hello was lost, and takes only the answer to the latest question', async () => {
    const nonces: Buffer[] = [];
    const { host } = scriptedGuest((wire, nonce) => {
      nonces.push(nonce);
      if (nonces.length < 3) return;
      for (const one of nonces)
        wire.write(Buffer.concat([encodeHelloRecord(one), hello({ agentVersion: one.toString('hex') })]));
    });
    const agent = await connectAgent({ connect: async () => host, deadlineMs: 10_000, helloRetryMs: 5 });
    expect(agent.hello.agentVersion).toBe(nonces.at(-1)?.toString('hex'));
    await agent.detach();
  });

  it('writes little where the agent stands between frames, and all that ends a half frame when it asks again', async () => {
    const written: number[] = [];
    const { host } = scriptedGuest((wire, nonce) => {
      if (written.length < 2) return;
      wire.write(Buffer.concat([encodeHelloRecord(nonce), hello()]));
    });
    const write = host.write.bind(host);
    host.write = (chunk: Buffer) => {
      written.push(chunk.length);
      return write(chunk);
    };
    const options = { deadlineMs: 10_000, helloRetryMs: 5, betweenFrames: true };
    const agent = await connectAgent({ connect: async () => host, ...options });
    expect(written[0]).toBeLessThan(100);
    expect(written[1]).toBeGreaterThan(MAX_FRAME);
    await agent.detach();
  });

  it('is AGENT_TIMEOUT at the deadline', async () => {
    const { host } = scriptedGuest(() => {});
    const attached = connectAgent({ connect: async () => host, deadlineMs: 20 });
    await expect(attached).rejects.toMatchObject({ code: 'AGENT_TIMEOUT' });
    expect(host.destroyed).toBe(true);
  });

  it('is AGENT_TIMEOUT for a socket that never is there', async () => {
    // The system's own error message, which comes sooner than any timer.
    const connect = () => Promise.reject(Object.assign(new Error('connect ENOENT'), { code: 'ENOENT' }));
    const attached = connectAgent({ connect, deadlineMs: 20, retryMs: 1 });
    await expect(attached).rejects.toMatchObject({
      code: 'AGENT_TIMEOUT',
      details: { lastError: expect.stringContaining('ENOENT') },
    });
  });

  it('is CANCELLED by the signal', async () => {
    const cancel = new AbortController();
    const { host } = scriptedGuest(() => cancel.abort());
    const attached = connectAgent({ connect: async () => host, deadlineMs: 10_000, signal: cancel.signal });
    await expect(attached).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(host.destroyed).toBe(true);
  });

  it.each([
    ['another protocol', hello({ protocol: 2 })],
    ['a hello of the wrong shape', hello({ bootId: 'x' })],
    ['a hello that is no JSON', encodeFrame(FRAME.hello, 0, Buffer.from('{'))],
    ['another frame before the hello', encodeFrame(FRAME.pong, 0)],
    ['bytes that are no frame', Buffer.alloc(100, 0xff)],
  ])('%s is AGENT_PROTOCOL', async (_what, bytes) => {
    const { host } = scriptedGuest((wire, nonce) => void wire.write(Buffer.concat([encodeHelloRecord(nonce), bytes])));
    const attached = connectAgent({ connect: async () => host, deadlineMs: 10_000 });
    await expect(attached).rejects.toMatchObject({ code: 'AGENT_PROTOCOL' });
    await setImmediate();
    expect(host.destroyed).toBe(true);
  });
});
