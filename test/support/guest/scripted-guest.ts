import { type Duplex, duplexPair } from 'node:stream';
import type { AgentChannel } from '../../../ports/guest-agent.ts';
import { connectAgent } from '../../../vmm/agent/connect-agent.ts';
import {
  encodeFrame,
  encodeHelloRecord,
  FRAME,
  type Frame,
  FrameReader,
  NONCE_BYTES,
} from '../../../vmm/agent/frames.ts';

const RECORD_BYTES = 16 + NONCE_BYTES + 4;

export const plainHello = { agentVersion: 'scripted', protocol: 1, bootId: 'ab'.repeat(16), features: [] };

/** The guest's end of a connection, to send bytes that no real agent would send. */
export interface ScriptedGuest {
  /** The end that a host connects to. */
  readonly host: Duplex;
  readonly wire: Duplex;
  /** Frames that the host has sent since it attached. */
  readonly received: Frame[];
  send(type: Frame['type'], stream: number, payload?: string | Buffer): void;
  /** Resolves with the first frame of this type, whether it has already arrived or not. */
  receive(type: Frame['type']): Promise<Frame>;
}

/**
 * @param answer writes what follows the hello record; default: a valid hello. Called once for each attach.
 * @param features what the valid hello announces
 */
export function scriptedGuest(
  answer?: (wire: Duplex, nonce: Buffer) => void,
  features: readonly string[] = [],
): ScriptedGuest {
  const [host, wire] = duplexPair();
  const received: Frame[] = [];
  const waiting: (() => void)[] = [];
  const reader = new FrameReader();
  let before = Buffer.alloc(0);
  let attached = false;
  const take = (bytes: Buffer): void => {
    received.push(...reader.push(bytes));
    for (const wake of waiting.splice(0)) wake();
  };
  wire.on('error', () => {});
  wire.on('data', (chunk: Buffer) => {
    if (attached) return take(chunk);
    before = Buffer.concat([before, chunk]);
    const at = before.indexOf('KILN-ATTACH-v1\r\n');
    if (at < 0 || before.length < at + RECORD_BYTES) return;
    const nonce = Buffer.from(before.subarray(at + 16, at + 16 + NONCE_BYTES));
    const rest = before.subarray(at + RECORD_BYTES);
    before = Buffer.alloc(0);
    if (answer !== undefined) return answer(wire, nonce);
    attached = true;
    wire.write(encodeHelloRecord(nonce));
    wire.write(encodeFrame(FRAME.hello, 0, Buffer.from(JSON.stringify({ ...plainHello, features }))));
    take(rest);
  });
  return {
    host,
    wire,
    received,
    send: (type, stream, payload = '') => {
      wire.write(encodeFrame(type, stream, Buffer.from(payload)));
    },
    async receive(type) {
      for (;;) {
        const found = received.find((frame) => frame.type === type);
        if (found !== undefined) return found;
        await new Promise<void>((resolve) => waiting.push(resolve));
      }
    },
  };
}

/** @returns a scripted guest, whose agent announces `features`, and the host's channel to it */
export async function attached(
  requestMs = 60_000,
  features: readonly string[] = [],
): Promise<{ guest: ScriptedGuest; agent: AgentChannel }> {
  const guest = scriptedGuest(undefined, features);
  const agent = await connectAgent({ connect: async () => guest.host, deadlineMs: 10_000, requestMs });
  return { guest, agent };
}
