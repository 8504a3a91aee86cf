/** Guests whose first bytes are not a valid hello: refused with a code, and no connection stays open. */
import type { Duplex } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { connectAgent } from '../../../../vmm/agent/connect-agent.ts';
import { encodeFrame, encodeHelloRecord, FRAME } from '../../../../vmm/agent/frames.ts';
import { plainHello, scriptedGuest } from '../../../support/guest/scripted-guest.ts';

const deep = `${'['.repeat(16_000)}${']'.repeat(16_000)}`;

describe('a hello that is none', () => {
  const hello = (change: object) =>
    encodeFrame(FRAME.hello, 0, Buffer.from(JSON.stringify({ ...plainHello, ...change })));
  const other = (nonce: Buffer) => Buffer.from(nonce.map((byte) => byte ^ 1));
  it.each<[string, (nonce: Buffer) => Buffer[], string]>([
    ['nothing at all', () => [], 'AGENT_TIMEOUT'],
    ['noise', () => [Buffer.alloc(100_000, 0x4b)], 'AGENT_TIMEOUT'],
    ['another nonce', (nonce) => [encodeHelloRecord(other(nonce)), hello({})], 'AGENT_TIMEOUT'],
    ['a record with a broken sum', (nonce) => [encodeHelloRecord(nonce).fill(0, 32), hello({})], 'AGENT_TIMEOUT'],
    ['half a record', (nonce) => [encodeHelloRecord(nonce).subarray(0, 20)], 'AGENT_TIMEOUT'],
    ['a record and nothing', (nonce) => [encodeHelloRecord(nonce)], 'AGENT_TIMEOUT'],
    ['half a frame', (nonce) => [encodeHelloRecord(nonce), hello({}).subarray(0, -3)], 'AGENT_TIMEOUT'],
    ['another frame', (nonce) => [encodeHelloRecord(nonce), encodeFrame(FRAME.pong, 0)], 'AGENT_PROTOCOL'],
    ['no frame', (nonce) => [encodeHelloRecord(nonce), Buffer.alloc(64, 0xff)], 'AGENT_PROTOCOL'],
    ['another protocol', (nonce) => [encodeHelloRecord(nonce), hello({ protocol: 2 })], 'AGENT_PROTOCOL'],
    ['no boot id', (nonce) => [encodeHelloRecord(nonce), hello({ bootId: 'x' })], 'AGENT_PROTOCOL'],
    [
      'a version without end',
      (nonce) => [encodeHelloRecord(nonce), hello({ agentVersion: 'x'.repeat(30_000) })],
      'AGENT_PROTOCOL',
    ],
    [
      'features without end',
      (nonce) => [encodeHelloRecord(nonce), hello({ features: Array(1000).fill('x') })],
      'AGENT_PROTOCOL',
    ],
    [
      'a deep one',
      (nonce) => [encodeHelloRecord(nonce), encodeFrame(FRAME.hello, 0, Buffer.from(deep))],
      'AGENT_PROTOCOL',
    ],
  ])('%s', async (_what, answer, code) => {
    const wires: Duplex[] = [];
    const connect = async () => {
      const guest = scriptedGuest((wire, nonce) => {
        for (const bytes of answer(nonce)) wire.write(bytes);
      });
      wires.push(guest.host);
      return guest.host;
    };
    await expect(connectAgent({ connect, deadlineMs: 150, helloRetryMs: 40 })).rejects.toMatchObject({ code });
    expect(wires.every((wire) => wire.destroyed)).toBe(true);
  });
});
