/** Proxies that pass bytes on unchanged and count the calls to the server behind them. */
import { connect, createServer, type Socket } from 'node:net';

export interface CountingProxy {
  /** `host:port` of the proxy. */
  readonly address: string;
  /** Number of calls since the proxy was started. */
  readonly calls: () => number;
  /** From now on each piece of an answer comes so much later, ms. */
  slowBy(ms: number): void;
  close(): Promise<void>;
}

/** Called with each piece that a client sends on one connection. @returns number of calls that begin in it */
type CallCounter = (piece: Buffer) => number;

const HTTP2_PREFACE_BYTES = 24;
const FRAME_HEADER_BYTES = 9;
const HEADERS_FRAME = 1;

/** Counts gRPC calls over plain HTTP/2: each begins with one HEADERS frame. Pings and acknowledgements do not count. */
export function grpcCalls(): CallCounter {
  let skip = HTTP2_PREFACE_BYTES;
  let rest: Buffer = Buffer.alloc(0);
  return (piece) => {
    let calls = 0;
    rest = Buffer.concat([rest, piece]);
    for (;;) {
      const taken = Math.min(skip, rest.length);
      skip -= taken;
      rest = rest.subarray(taken);
      if (rest.length < FRAME_HEADER_BYTES) return calls;
      if (rest[3] === HEADERS_FRAME) calls += 1;
      skip = FRAME_HEADER_BYTES + rest.readUIntBE(0, 3);
    }
  };
}

/** Counts HTTP/1.1 requests: our clients send no request before the previous one is answered. */
export function httpRequests(): CallCounter {
  return (piece) => (/^(GET|HEAD|PUT|POST|DELETE) /.test(piece.toString('latin1', 0, 8)) ? 1 : 0);
}

/** @param target `host:port` of the server. @param counter called for each connection to make its counter */
export async function startCountingProxy(target: string, counter: () => CallCounter): Promise<CountingProxy> {
  const [host = '', port = ''] = target.split(':');
  const open = new Set<Socket>();
  let calls = 0;
  let lateMs = 0;
  const later = (act: () => void): void => {
    if (lateMs === 0) act();
    else setTimeout(act, lateMs);
  };
  const server = createServer((client) => {
    const count = counter();
    const upstream = connect(Number(port), host);
    client.on('data', (piece: Buffer) => {
      calls += count(piece);
    });
    for (const socket of [client, upstream]) {
      open.add(socket);
      socket.once('close', () => open.delete(socket));
    }
    client.pipe(upstream);
    // Also the end comes late: a server may close behind each answer.
    upstream.on('data', (piece: Buffer) => later(() => client.write(piece)));
    upstream.once('end', () => later(() => client.end()));
    const broken = () => {
      client.destroy();
      upstream.destroy();
    };
    for (const socket of [client, upstream]) socket.once('error', broken);
    client.once('close', () => upstream.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const bound = server.address();
  return {
    address: `127.0.0.1:${typeof bound === 'object' && bound !== null ? bound.port : 0}`,
    calls: () => calls,
    slowBy: (ms) => {
      lateMs = ms;
    },
    close: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of open) socket.destroy();
      await closed;
    },
  };
}
