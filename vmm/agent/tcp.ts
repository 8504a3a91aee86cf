import type { Duplex } from 'node:stream';
import { joinStreams } from '../../concurrency/join-streams.ts';
import type { EgressHandler } from '../../ports/guest-agent.ts';
import { FRAME } from './frames.ts';
import { egressRequest, parseMessage } from './messages.ts';
import type { GuestOpener, Mux } from './mux.ts';
import { withTimeout } from './mux.ts';
import type { MuxStream } from './mux-stream.ts';
import { StreamDuplex } from './stream-duplex.ts';

/**
 * Opens a connection to a port of the guest's loopback.
 * @throws NOT_FOUND where nobody listens, AGENT_TIMEOUT, AGENT_LOST
 */
export async function connectTcp(mux: Mux, port: number, timeoutMs: number): Promise<Duplex> {
  const duplex = new StreamDuplex();
  await withTimeout<void>(timeoutMs, 'tcp', (resolve, reject) => {
    let connected = false;
    const handler = duplex.handler(
      () => {
        connected = true;
        resolve();
      },
      (error) => {
        if (!connected) reject(error);
        return !connected;
      },
    );
    const stream = mux.open({ kind: 'tcp', port }, handler);
    duplex.carry(stream);
    return () => duplex.destroy();
  });
  return duplex;
}

/** Most pending egress requests of one guest: a guest may take a request back, but its look-up goes on. */
const MAX_DECIDING = 256;

/** @returns the function that answers the guest's egress requests with the handler that is set at that moment. */
export function egressOpener(currentHandler: () => EgressHandler | undefined): GuestOpener {
  let deciding = 0;
  return (_id, payload, make) => {
    const { name, port } = parseMessage(egressRequest, payload, 'request for a connection');
    const duplex = new StreamDuplex();
    const stream = make(duplex.handler());
    duplex.carry(stream);
    if (deciding >= MAX_DECIDING) {
      stream.reset('QUEUE_FULL', 'too many connections are being opened');
      duplex.destroy();
      return;
    }
    deciding += 1;
    void decide(currentHandler(), { name, port }, stream, duplex).finally(() => {
      deciding -= 1;
    });
  };
}

async function decide(
  handler: EgressHandler | undefined,
  request: { name: string; port: number },
  stream: MuxStream,
  duplex: StreamDuplex,
): Promise<void> {
  try {
    const verdict = handler === undefined ? NOBODY_DECIDES : await handler(request);
    if (!verdict.allow) {
      stream.reset('EGRESS_DENIED', verdict.reason);
      duplex.destroy();
      return;
    }
    joinStreams(duplex, verdict.socket, verdict.onBytes);
    stream.sendFrame(FRAME.opened, Buffer.from('{}'));
  } catch (error) {
    stream.reset('EGRESS_FAILED', error instanceof Error ? error.message : 'failed');
    duplex.destroy();
  }
}

const NOBODY_DECIDES = { allow: false, reason: 'no egress is allowed' } as const;
