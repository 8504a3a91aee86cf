/** Frames and payloads that are wrong in every state of a channel. */
import { encodeFrame, FRAME, type FrameType } from '../../../../vmm/agent/frames.ts';
import { plainHello } from '../../../support/guest/scripted-guest.ts';

export const EGRESS = '{"kind":"egress","name":"a.example","port":443}';

/** Payloads that are invalid for every type of frame. */
const deep = `${'['.repeat(16_000)}${']'.repeat(16_000)}`;
export const BAD_JSON = [
  '',
  '{',
  'null',
  '[]',
  '1',
  '"x"',
  '\u0000',
  deep,
  `{"pid":"${'9'.repeat(30_000)}"}`,
  '{"__proto__":{}}',
];
export const NO_NUMBERS = ['-1', '1.5', '1e999', '9007199254740993', '"1"', 'null', 'NaN'];
export const uint64 = (...values: bigint[]): Buffer => {
  const bytes = Buffer.alloc(values.length * 8);
  values.forEach((value, n) => void bytes.writeBigUInt64BE(value, n * 8));
  return bytes;
};

export interface Wrong {
  readonly what: string;
  readonly frames: readonly Buffer[];
}

/** Frames that a guest may not send in any state. */
export function always(stream: number): Wrong[] {
  const raw = (what: string, ...bytes: number[]): Wrong => ({ what, frames: [Buffer.from(bytes)] });
  const one = (what: string, type: FrameType, on: number, payload: string | Buffer = ''): Wrong => ({
    what,
    frames: [encodeFrame(type, on, Buffer.from(payload))],
  });
  return [
    raw('a length of 0', 0, 0, 0, 0),
    raw('a length of 5', 0, 0, 0, 5, 6, 0, 0, 0, 1),
    raw('a length one too large', 0, 0, 0x7f, 0xfd),
    raw('a length of 4 GiB', 0xff, 0xff, 0xff, 0xff),
    raw('type 0', 0, 0, 0, 6, 0, 0, 0, 0, stream, 0),
    raw('type 16', 0, 0, 0, 6, 16, 0, 0, 0, stream, 0),
    raw('type 255', 0, 0, 0, 6, 255, 0, 0, 0, stream, 0),
    raw('no end mark', 0, 0, 0, 6, 6, 0, 0, 0, stream, 1),
    one('data on no stream', FRAME.data, 0, 'x'),
    one('data on a stream of the host that never was', FRAME.data, 99, 'x'),
    one('data on a stream of the guest that never was', FRAME.data, 98, 'x'),
    one('data on the last stream of all', FRAME.data, 0xffff_ffff, 'x'),
    one('a second hello', FRAME.hello, 0, JSON.stringify(plainHello)),
    one('a ping', FRAME.ping, 0, 'x'),
    one('an ack', FRAME.ack, 0, uint64(1n)),
    one('an open of the host', FRAME.open, 3, EGRESS),
    one('an open of no stream', FRAME.open, 0, EGRESS),
    {
      what: 'an open twice',
      frames: [encodeFrame(FRAME.open, 4, Buffer.from(EGRESS)), encodeFrame(FRAME.open, 4, Buffer.from(EGRESS))],
    },
    {
      what: 'opens that go back',
      frames: [encodeFrame(FRAME.open, 8, Buffer.from(EGRESS)), encodeFrame(FRAME.open, 6, Buffer.from(EGRESS))],
    },
    ...BAD_JSON.map((text) => one(`an open that says ${text.slice(0, 20)}`, FRAME.open, 10, text)),
    ...[
      '',
      '.',
      '..',
      'a..b',
      'a b',
      'a\u0000b',
      'Ä',
      'A.EXAMPLE',
      '[::1]',
      'a/b',
      'a'.repeat(254),
      'a'.repeat(32_000),
    ].map((name) =>
      one(
        `egress to ${JSON.stringify(name).slice(0, 20)}`,
        FRAME.open,
        10,
        JSON.stringify({ kind: 'egress', name, port: 443 }),
      ),
    ),
    ...[...NO_NUMBERS, '0', '65536'].map((port) =>
      one(`egress to port ${port}`, FRAME.open, 10, `{"kind":"egress","name":"a.example","port":${port}}`),
    ),
    ...['exec', 'tcp', 'configure', ''].map((kind) =>
      one(`an open of kind ${kind}`, FRAME.open, 10, JSON.stringify({ kind, name: 'a.example', port: 443 })),
    ),
    one('a goodbye', FRAME.goodbye, 0, '{"code":"AGENT_PROTOCOL","message":"enough"}'),
    one('a goodbye that says nothing', FRAME.goodbye, 0),
  ];
}
