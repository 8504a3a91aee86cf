/** Properties of all code on the host that parses a guest's bytes. `unit` runs each briefly, `npm run fuzz` longer. */
import { type Duplex, duplexPair } from 'node:stream';
import fc from 'fast-check';
import type { z } from 'zod';
import { probeHealth } from '../../activities/workload/health-probe.ts';
import { isKilnError, KilnError } from '../../domain/failures.ts';
import type { AgentChannel } from '../../ports/guest-agent.ts';
import { connectAgent } from '../../vmm/agent/connect-agent.ts';
import { endOf, OutputQueue, parseGap, parseOutput } from '../../vmm/agent/exec-output.ts';
import { encodeFrame, FRAME, FrameReader, MAX_FRAME, MAX_PAYLOAD } from '../../vmm/agent/frames.ts';
import * as messages from '../../vmm/agent/messages.ts';
import { encodeRecord, RECORD, RecordReader } from '../../vmm/agent/workspace/records.ts';
import { attached, scriptedGuest } from '../support/guest/scripted-guest.ts';

export interface FuzzTarget {
  readonly name: string;
  /** Number of runs in `npm test`. */
  readonly runs: number;
  readonly property: fc.IRawProperty<unknown>;
}

const bytes = (maxLength: number) => fc.uint8Array({ maxLength }).map((array) => Buffer.from(array));
const hostileText = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 300 }),
  fc.json({ maxDepth: 6 }),
  fc.constantFrom('', '[', '{"a":', '['.repeat(20_000), 'null', '1e999', '{"__proto__":{}}'),
);
const frame = fc
  .record({
    type: fc.constantFrom(...Object.values(FRAME)),
    stream: fc.oneof(fc.integer({ min: 0, max: 9 }), fc.integer({ min: 0, max: 0xffff_ffff })),
    payload: bytes(200),
  })
  .map(({ type, stream, payload }) => encodeFrame(type, stream, payload));
/** Valid frames with noise between them, and with a few flipped bits. */
const wire = fc
  .tuple(
    fc.array(fc.oneof({ weight: 5, arbitrary: frame }, { weight: 1, arbitrary: bytes(50) }), { maxLength: 20 }),
    fc.array(fc.nat(), { maxLength: 2 }),
  )
  .map(([parts, flips]) => {
    const all = Buffer.concat(parts);
    for (const flip of flips)
      if (all.length > 0) all.writeUInt8(all.readUInt8(flip % all.length) ^ (1 << (flip % 8)), flip % all.length);
    return all;
  });

/** Any other error than AGENT_PROTOCOL, the code for a broken protocol, is a bug of the parser. */
function parses(work: () => void): void {
  try {
    work();
  } catch (error) {
    if (!isKilnError(error, 'AGENT_PROTOCOL')) throw error;
  }
}

function check(holds: boolean, what: string): void {
  if (!holds) throw new Error(what);
}

const frames: FuzzTarget = {
  name: 'frames',
  runs: 500,
  property: fc.property(wire, fc.integer({ min: 1, max: 5000 }), (all, size) => {
    const read = (step: number) => {
      const found: string[] = [];
      const reader = new FrameReader();
      try {
        for (let at = 0; at < all.length; at += step) {
          for (const { type, stream, payload } of reader.push(all.subarray(at, at + step))) {
            check(payload.length <= MAX_PAYLOAD, 'a payload beyond the limit');
            found.push(`${type} ${stream} ${payload.toString('hex')}`);
          }
        }
      } catch (error) {
        if (!isKilnError(error, 'AGENT_PROTOCOL')) throw error;
        found.push('broken');
      }
      return found;
    };
    // A piece may hold valid frames in front of the broken one: those are not returned.
    const whole = read(all.length || 1);
    const pieces = read(size);
    check(whole.at(-1) === pieces.at(-1) || whole.at(-1) === 'broken', 'how bytes are cut changes what they say');
  }),
};

const entryJson = fc
  .record({
    path: fc.string({ unit: 'binary', maxLength: 8 }).map((path) => Buffer.from(path, 'latin1').toString('base64')),
    type: fc.constantFrom('file', 'folder', 'symlink', 'hardlink', 'x'),
    mode: fc.integer({ min: -1, max: 0o10000 }),
    mtimeNs: fc.oneof(fc.bigInt().map(String), hostileText),
    chunks: fc.array(fc.tuple(fc.constantFrom('', 'a'.repeat(64), 'b'), fc.integer()), { maxLength: 3 }),
    target: fc.base64String({ maxLength: 8 }),
  })
  .map((entry) => JSON.stringify({ ...entry, uid: 0, gid: 0, size: 1 }));
const saveBytes = fc
  .array(
    fc.oneof(
      fc
        .tuple(fc.constantFrom(...Object.values(RECORD)), fc.oneof(entryJson, hostileText))
        .map(([type, text]) => Buffer.concat([Buffer.from([type, 0, 0, 0, 0]), Buffer.from(text)]))
        .map((record) => {
          record.writeUInt32BE(record.length - 5, 1);
          return record;
        }),
      fc.constant(encodeRecord(RECORD.finish, Buffer.alloc(0))),
      bytes(12),
    ),
    { maxLength: 8 },
  )
  .map((parts) => Buffer.concat(parts));

const records: FuzzTarget = {
  name: 'records of a save',
  runs: 500,
  property: fc.property(saveBytes, fc.integer({ min: 1, max: 300 }), (all, size) => {
    const read = (step: number) => {
      const found: string[] = [];
      const reader = new RecordReader();
      try {
        for (let at = 0; at < all.length; at += step) {
          for (const { type, payload } of reader.push(all.subarray(at, at + step))) {
            check(payload.length <= 4 * 1024 * 1024, 'a record beyond the limit');
            found.push(`${type} ${payload.toString('hex')}`);
          }
        }
      } catch (error) {
        if (!isKilnError(error, 'AGENT_PROTOCOL')) throw error;
        found.push('broken');
      }
      return found.join('\n');
    };
    check(read(all.length || 1) === read(size), 'how bytes are cut changes what they say');
  }),
};

const saves: FuzzTarget = {
  name: 'saves',
  runs: 100,
  property: fc.asyncProperty(saveBytes, fc.boolean(), async (all, delta) => {
    const { guest, agent } = await attached(60_000, ['workspace-save']);
    const reading = (async () => {
      const request = { path: '/w', saveId: 's', saltHex: '0'.repeat(64) };
      for await (const record of agent.saveWorkspace(request)) {
        if (record.kind !== 'entry') continue;
        const { path } = record.entry;
        check(path === '' || path.split('/').every((name) => !['', '.', '..'].includes(name)), 'a path that leaves');
      }
    })();
    await guest.receive(FRAME.open);
    guest.send(FRAME.opened, 1, JSON.stringify({ delta }));
    for (let at = 0; at < all.length; at += MAX_PAYLOAD) guest.send(FRAME.data, 1, all.subarray(at, at + MAX_PAYLOAD));
    guest.send(FRAME.done, 1, '{}');
    // Such a summary is none, so that no save of the fuzzer succeeds.
    const ended = await reading.then(
      () => 'whole',
      (error: Error) => codeOf(error),
    );
    check(ended === 'AGENT_PROTOCOL', `a save that ends as ${ended}`);
    await agent.detach();
  }),
};

const { helloMessage, failureMessage, nothing, execOpened, execExit, execList, tarReceived, usageMessage } = messages;
const SHAPES: readonly z.ZodType[] = [
  ...[helloMessage, failureMessage, nothing, execOpened],
  ...[execExit, execList, tarReceived, usageMessage, messages.execUsageMessage, messages.egressRequest],
];

const replies: FuzzTarget = {
  name: 'replies',
  runs: 500,
  property: fc.property(hostileText, (text) => {
    for (const schema of SHAPES) {
      parses(() => void messages.parseMessage(schema, Buffer.from(text), 'reply'));
    }
    parses(() => void messages.parseRefusal(Buffer.from(text)));
  }),
};

const features: FuzzTarget = {
  name: 'features',
  runs: 300,
  property: fc.property(
    fc.oneof(
      fc.array(fc.string({ maxLength: 3 }), { maxLength: 70, size: 'max' }),
      fc.array(fc.string({ unit: 'binary', maxLength: 70, size: 'max' }), { maxLength: 2 }),
      fc.jsonValue({ maxDepth: 3 }),
      fc.constant(undefined),
    ),
    (announced) => {
      parses(() => {
        const text = JSON.stringify({ agentVersion: '1', protocol: 1, bootId: 'ab'.repeat(16), features: announced });
        const { features: found } = messages.parseMessage(messages.helloMessage, Buffer.from(text), 'hello');
        check(found.length <= 64 && found.every((name) => [...name].length <= 64), 'features beyond their bounds');
        check(announced === undefined ? found.length === 0 : Array.isArray(announced), 'features that are none');
      });
    },
  ),
};

const egressWishes: FuzzTarget = {
  name: 'egress wishes',
  runs: 300,
  property: fc.property(hostileText, fc.oneof(fc.integer(), fc.double(), hostileText), (name, port) => {
    parses(() => {
      const wish = messages.parseMessage(
        messages.egressRequest,
        Buffer.from(JSON.stringify({ kind: 'egress', name, port })),
        'wish',
      );
      check(/^[a-z0-9._-]{1,253}$/.test(wish.name) && Number.isInteger(wish.port), 'a wish that is none');
    });
  }),
};

const output: FuzzTarget = {
  name: 'output',
  runs: 500,
  property: fc.asyncProperty(
    fc.array(fc.tuple(fc.boolean(), bytes(40), fc.nat(30)), { maxLength: 40 }),
    async (pieces) => {
      let taken = 0;
      let sent = 0;
      let cost = 0;
      let end = 0;
      const queue = new OutputQueue(
        0,
        (given) => {
          taken += given;
        },
        () => undefined,
      );
      try {
        for (const [isGap, payload, length] of pieces) {
          const good = Buffer.alloc(isGap ? 16 : 9 + length, 1);
          good.writeBigUInt64BE(BigInt(end), isGap ? 0 : 1);
          if (isGap) good.writeBigUInt64BE(BigInt(length), 8);
          const raw = payload.length > 30 ? payload : good;
          const piece = isGap ? parseGap(raw) : parseOutput(raw);
          queue.push(piece, raw.length);
          sent += piece.kind === 'gap' ? piece.bytes : piece.data.length;
          cost += raw.length;
          end = endOf(piece);
        }
        queue.end();
      } catch (error) {
        if (!isKilnError(error, 'AGENT_PROTOCOL')) throw error;
        queue.fail(error);
      }
      let read = 0;
      let next = 0;
      try {
        for await (const piece of queue) {
          check(piece.offset === next, 'pieces that do not follow each other');
          next = endOf(piece);
          read += piece.kind === 'gap' ? piece.bytes : piece.data.length;
        }
      } catch (error) {
        if (!isKilnError(error, 'AGENT_PROTOCOL')) throw error;
      }
      check(read === sent && taken === cost, `${read} of ${sent} bytes, ${taken} of ${cost} credit`);
    },
  ),
};

const channel: FuzzTarget = {
  name: 'channel',
  runs: 60,
  property: fc.asyncProperty(wire, fc.integer({ min: 1, max: 3000 }), async (all, step) => {
    const guest = scriptedGuest(undefined, ['exec-cgroup', 'exec-usage']);
    const agent = await connectAgent({ connect: async () => guest.host, deadlineMs: 10_000, requestMs: 60_000 });
    agent.serveEgress(async () => ({ allow: false, reason: 'fuzz' }));
    const asked = [
      agent.usage(),
      agent.listExecs(),
      agent.connectTcp(1),
      agent.exec({ execId: 'e', argv: ['x'], output: 'ring', killLeftoversAfterMs: 1 }),
      agent.getTar('/x', []).toArray(),
      agent.attachExec('e').then((exec) => exec.usage()),
    ];
    const settled = Promise.allSettled(asked);
    for (let at = 0; at < all.length; at += step) guest.wire.write(all.subarray(at, at + step));
    // More bytes than any started frame can need, and never a valid end of one.
    guest.wire.write(Buffer.alloc(MAX_FRAME, 0xff));
    check(['AGENT_PROTOCOL', 'AGENT_LOST'].includes(codeOf(await agent.closed)), 'an end without its code');
    await settled;
  }),
};

function codeOf(error: Error): string {
  return error instanceof KilnError ? error.code : error.message;
}

const answers: FuzzTarget = {
  name: 'HTTP answers to the health check',
  runs: 60,
  property: fc.asyncProperty(
    fc.oneof(
      bytes(300),
      fc
        .constantFrom(
          'HTTP/1.1 200 OK\r\n\r\nbody',
          'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n',
          'HTTP/1.1 999 \r\n\r\n',
          'HTTP/1.1 -1 x\r\n\r\n',
          'HTTP/1.1 100 Continue\r\n\r\n'.repeat(2000),
          'HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n',
          `HTTP/1.1 200 OK\r\n${'a: b\r\n'.repeat(20_000)}`,
          `HTTP/1.1 200 ${'x'.repeat(100_000)}`,
          'HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\n\r\n',
          'HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n',
          'SSH-2.0-x\r\n',
        )
        .map((text) => Buffer.from(text)),
    ),
    fc.boolean(),
    async (answer, ends) => {
      const guests: Duplex[] = [];
      const connectTcp: AgentChannel['connectTcp'] = async () => {
        const [host, guest] = duplexPair();
        guest
          .on('error', () => undefined)
          .resume()
          .write(answer);
        if (ends) guest.end();
        guests.push(host);
        return host;
      };
      const result = await probeHealth({ connectTcp }, 80, {
        path: '/',
        intervalMs: 1,
        timeoutMs: 60,
        failures: 1,
        startPeriodMs: 1,
      });
      check(result.healthy || result.reason.length > 0, 'ill without a reason');
      check(
        guests.every((socket) => socket.destroyed),
        'a connection is left',
      );
    },
  ),
};

export const FUZZ_TARGETS: readonly FuzzTarget[] = [
  ...[frames, replies, features, egressWishes, output],
  ...[channel, answers, records, saves],
];
