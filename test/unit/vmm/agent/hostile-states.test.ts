/** Every state of the host's end of the protocol, against every frame that must not arrive in it. */
import { Readable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import type { AgentChannel } from '../../../../ports/guest-agent.ts';
import { encodeFrame, FRAME, type FrameType, WINDOW } from '../../../../vmm/agent/frames.ts';
import { attached, type ScriptedGuest } from '../../../support/guest/scripted-guest.ts';
import { always, BAD_JSON, EGRESS, NO_NUMBERS, uint64, type Wrong } from './wrong-frames.ts';

/** A guest that announces every feature, so that the host asks for all there is. */
const attach = (requestMs?: number) => attached(requestMs, ['exec-cgroup', 'exec-usage']);

interface State {
  readonly name: string;
  /** Brings the channel into the state. @returns the promise that then waits for the guest, if there is one. */
  enter(agent: AgentChannel, guest: ScriptedGuest): Promise<{ waits?: Promise<unknown> }>;
  /** Number of the stream that the state concerns. */
  readonly stream: number;
  /** Types of frame that may arrive on it. */
  readonly accepts: readonly FrameType[];
  /** Frames of any type may still arrive on it, because they can cross the end of the stream. */
  readonly over?: true;
}

const OPENED = '{"pid":7,"existed":false}';
const EXIT = '{"code":0,"signal":null,"timedOut":false}';

async function all(source: AsyncIterable<unknown>): Promise<number> {
  let count = 0;
  for await (const _ of source) count += 1;
  return count;
}

function request(name: string, accepts: readonly FrameType[], begin: (agent: AgentChannel) => Promise<unknown>): State {
  return {
    name,
    stream: 1,
    accepts,
    async enter(agent, guest) {
      const waits = begin(agent);
      waits.catch(() => undefined);
      await guest.receive(FRAME.open);
      return { waits };
    },
  };
}

async function startedExec(agent: AgentChannel, guest: ScriptedGuest) {
  const starting = agent.exec({ execId: 'e', argv: ['x'], output: 'wait' });
  await guest.receive(FRAME.open);
  guest.send(FRAME.opened, 1, OPENED);
  return starting;
}

const { opened, data, credit, end, reset, done, output, gap, exit } = FRAME;
const identity = { hostname: 'h', seedHex: '00'.repeat(32), machineId: '00'.repeat(16), wallClockMs: 0 };

const STATES: readonly State[] = [
  { name: 'nothing asked', stream: 1, accepts: [], enter: async () => ({}) },
  {
    name: 'a ping without its answer',
    stream: 1,
    accepts: [],
    enter: async (agent, guest) => {
      const waits = agent.ping();
      waits.catch(() => undefined);
      await guest.receive(FRAME.ping);
      return { waits };
    },
  },
  request('configure', [done, reset, credit], (agent) => agent.configure(identity)),
  request('usage', [done, reset, credit], (agent) => agent.usage()),
  request('shutdown', [done, reset, credit], (agent) => agent.shutdown()),
  request('list', [data, done, reset, credit], (agent) => agent.listExecs()),
  request('exec starting', [opened, reset, credit], (agent) =>
    agent.exec({ execId: 'e', argv: ['x'], output: 'wait' }),
  ),
  request('attach starting', [opened, reset, credit], (agent) => agent.attachExec('e')),
  request('tar in', [done, reset, credit], (agent) => agent.putTar('/x', Readable.from([Buffer.from('x')]))),
  request('tar out', [data, done, reset, credit], (agent) => all(agent.getTar('/x', []))),
  request('tcp opening', [opened, reset, credit], (agent) => agent.connectTcp(80)),
  {
    name: 'exec running',
    stream: 1,
    accepts: [output, gap, exit, reset, credit],
    enter: async (agent, guest) => {
      const handle = await startedExec(agent, guest);
      return { waits: handle.exit };
    },
  },
  {
    name: 'exec usage',
    stream: 3,
    accepts: [done, reset, credit],
    enter: async (agent, guest) => {
      const handle = await startedExec(agent, guest);
      const waits = handle.usage();
      waits.catch(() => undefined);
      return { waits };
    },
  },
  {
    name: 'exec ended',
    stream: 1,
    accepts: [],
    over: true,
    enter: async (agent, guest) => {
      const handle = await startedExec(agent, guest);
      guest.send(exit, 1, EXIT);
      await handle.exit;
      return {};
    },
  },
  {
    name: 'tcp open',
    stream: 1,
    accepts: [data, end, reset, credit],
    enter: async (agent, guest) => {
      const connecting = agent.connectTcp(80);
      await guest.receive(FRAME.open);
      guest.send(opened, 1, '{}');
      const waits = all(await connecting);
      waits.catch(() => undefined);
      return { waits };
    },
  },
  {
    name: 'egress being decided',
    stream: 2,
    accepts: [data, end, reset, credit],
    enter: async (agent, guest) => {
      const asked = Promise.withResolvers<void>();
      agent.serveEgress(() => {
        asked.resolve();
        return new Promise(() => undefined);
      });
      guest.send(FRAME.open, 2, EGRESS);
      await asked.promise;
      return {};
    },
  },
  {
    name: 'egress refused',
    stream: 2,
    accepts: [],
    over: true,
    enter: async (agent, guest) => {
      agent.serveEgress(async () => ({ allow: false, reason: 'test' }));
      guest.send(FRAME.open, 2, EGRESS);
      await guest.receive(reset);
      return {};
    },
  },
];

const piece = (stream: number, offset: bigint, text: string) =>
  Buffer.concat([Buffer.from([stream]), uint64(offset), Buffer.from(text)]);
const HUGE = 2n ** 64n - 1n;

const BAD_PAYLOADS: Partial<Record<FrameType, readonly (string | Buffer)[]>> = {
  [credit]: ['', 'abc', 'abcde', Buffer.from([0xff, 0xff, 0xff, 0xff]), Buffer.from([0, 4, 0, 1])],
  [reset]: [...BAD_JSON, '{"code":1,"message":""}', '{"code":"A"}', `{"code":"${'A'.repeat(65)}","message":""}`],
  [output]: ['', 'abc', piece(0, 0n, 'x'), piece(3, 0n, 'x'), piece(1, 0n, ''), piece(1, 1n, 'x'), piece(1, HUGE, 'x')],
  [gap]: [
    '',
    'abc',
    uint64(0n),
    uint64(0n, 0n),
    uint64(1n, 1n),
    uint64(HUGE, 1n),
    uint64(0n, HUGE),
    uint64(0n, 1n, 2n),
  ],
  [exit]: [
    ...BAD_JSON,
    '{"code":0}',
    '{"code":256,"signal":null,"timedOut":false}',
    '{"code":0,"signal":"9","timedOut":false}',
    ...NO_NUMBERS.filter((text) => text !== 'null').map((text) => `{"code":${text},"signal":null,"timedOut":false}`),
  ],
};

/** Answers whose first number is none, for each state. */
const BAD_DONE: Readonly<Record<string, (text: string) => string>> = {
  usage: (text) => `{"memUsedBytes":${text},"memTotalBytes":1,"cpuMs":1}`,
  'exec usage': (text) => `{"cpuMs":${text},"processes":1}`,
  'tar in': (text) => `{"bytes":${text}}`,
};

function badPayloads(state: State, type: FrameType): readonly (string | Buffer)[] {
  const withNumber = (make: (text: string) => string) => [...BAD_JSON, ...NO_NUMBERS.map(make)];
  if (type === opened && /exec|attach/.test(state.name)) return withNumber((pid) => `{"pid":${pid},"existed":false}`);
  const answer = type === done ? BAD_DONE[state.name] : undefined;
  if (answer !== undefined) return withNumber(answer);
  if (type === done && state.name === 'list') return BAD_JSON.slice(0, 1);
  return BAD_PAYLOADS[type] ?? [];
}

const PAYLOADS = ['', 'x', '{}', OPENED, EXIT] as const;
const NAMES = Object.fromEntries(Object.entries(FRAME).map(([name, type]) => [type, name]));

/** Frames that must not arrive on the stream of this state. */
function onStream(state: State): Wrong[] {
  if (state.over === true || state.name === 'nothing asked' || state.name.startsWith('a ping')) return [];
  const types = Object.values(FRAME).filter(
    (type) => ![FRAME.pong, FRAME.open, FRAME.goodbye].some((own) => own === type),
  );
  const frame = (type: FrameType, payload: string | Buffer): Wrong => ({
    what: `${NAMES[type]} ${JSON.stringify(payload.toString('latin1')).slice(0, 40)}`,
    frames: [encodeFrame(type, state.stream, Buffer.from(payload))],
  });
  const wrong = types.flatMap((type) =>
    (state.accepts.includes(type) ? badPayloads(state, type) : PAYLOADS).map((payload) => frame(type, payload)),
  );
  if (state.accepts.includes(end)) {
    const ended = encodeFrame(end, state.stream);
    wrong.push({ what: 'an end twice', frames: [ended, ended] });
    wrong.push({ what: 'data after the end', frames: [ended, encodeFrame(data, state.stream, Buffer.from('x'))] });
  }
  if (state.accepts.includes(output)) {
    wrong.push({
      what: 'output twice',
      frames: [1, 2].map(() => encodeFrame(output, state.stream, piece(1, 0n, 'x'))),
    });
    const back = [piece(1, 0n, 'xxxx'), piece(1, 2n, 'x')];
    wrong.push({
      what: 'output that goes back',
      frames: back.map((bytes) => encodeFrame(output, state.stream, bytes)),
    });
  }
  return wrong;
}

const rows = STATES.flatMap((state) =>
  [...always(state.stream), ...onStream(state)].map((wrong) => [state, wrong] as const),
);

describe('a wrong frame in every state', () => {
  it('the table is large', () => expect(rows.length).toBeGreaterThan(1000));

  it.each(STATES)('$name: each ends the channel and whoever waits, with AGENT_PROTOCOL', async (state) => {
    for (const [, { what, frames }] of rows.filter(([of]) => of === state)) {
      const { guest, agent } = await attach();
      const { waits } = await state.enter(agent, guest);
      for (const bytes of frames) guest.wire.write(bytes);
      expect(await agent.closed, what).toMatchObject({ code: 'AGENT_PROTOCOL' });
      if (waits !== undefined) await expect(waits, what).rejects.toMatchObject({ code: 'AGENT_PROTOCOL' });
      await expect(agent.usage(), what).rejects.toMatchObject({ code: 'AGENT_PROTOCOL' });
      expect(guest.host.destroyed).toBe(true);
    }
  });

  it.each(STATES.filter((state) => state.over))('$name: what crossed its end on the wire is nothing', async (state) => {
    for (const type of Object.values(FRAME)) {
      if ([FRAME.pong, FRAME.open, FRAME.goodbye].some((own) => own === type)) continue;
      const { guest, agent } = await attach();
      await state.enter(agent, guest);
      for (const payload of PAYLOADS) guest.send(type, state.stream, payload);
      guest.wire.on('data', () => {
        const last = guest.received.findLast((frame) => frame.type === FRAME.ping);
        if (last !== undefined) guest.send(FRAME.pong, 0, last.payload);
      });
      await agent.ping();
      await agent.detach();
    }
  });
});

describe('more than a stream may hold', () => {
  it.each(STATES.filter(({ accepts }) => accepts.includes(data) || accepts.includes(output)))(
    '$name',
    async (state) => {
      const { guest, agent } = await attach();
      await state.enter(agent, guest);
      const size = 16 * 1024;
      for (let sent = 0, at = 0n; sent <= 40 * WINDOW; sent += size) {
        const bytes = state.accepts.includes(output) ? piece(1, at, 'x'.repeat(size)) : Buffer.alloc(size);
        at += BigInt(size);
        guest.send(state.accepts.includes(output) ? output : data, state.stream, bytes);
      }
      // A reader that keeps up gives credit back, so these two stay below the limit; only a list has a maximum length.
      if (state.name === 'tcp open' || state.name === 'tar out') await agent.detach();
      else expect(await agent.closed).toMatchObject({ code: 'AGENT_PROTOCOL' });
    },
  );
});

describe('silence, and an end in the middle', () => {
  const asks = STATES.filter(
    ({ stream, accepts, name }) => stream === 1 && accepts.length > 0 && !/running|open$/.test(name),
  );
  it.each(asks)('$name: silence is AGENT_TIMEOUT', async (state) => {
    const { guest, agent } = await attach(40);
    const { waits } = await state.enter(agent, guest);
    await expect(waits).rejects.toMatchObject({ code: 'AGENT_TIMEOUT' });
    await agent.detach();
  });

  it.each(asks)('$name: the end of the connection, in the middle of a frame, is AGENT_LOST', async (state) => {
    const { guest, agent } = await attach();
    const { waits } = await state.enter(agent, guest);
    guest.wire.write(encodeFrame(data, state.stream, Buffer.alloc(100)).subarray(0, 50));
    guest.wire.end();
    await expect(waits).rejects.toMatchObject({ code: 'AGENT_LOST' });
  });

  it('a frame of which one byte comes at a time is a frame', async () => {
    const { guest, agent } = await attach();
    const usage = agent.usage();
    await guest.receive(FRAME.open);
    for (const byte of encodeFrame(done, 1, Buffer.from('{"memUsedBytes":1,"memTotalBytes":2,"cpuMs":3}'))) {
      guest.wire.write(Buffer.from([byte]));
    }
    expect(await usage).toEqual({ memUsedBytes: 1, memTotalBytes: 2, cpuMs: 3 });
    await agent.detach();
  });
});
