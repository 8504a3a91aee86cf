/** Streams of a log whose host reports new lines: meanwhile the gateway asks nobody else. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { decodeLogCursor } from '../../contracts/api/log-page.ts';
import type { NumberedLogEntry } from '../../domain/logs/log-entry.ts';
import {
  authorized,
  type GatewayFixture,
  HOST_ID,
  newId,
  startGateway,
  TOKEN,
} from '../support/gateway/gateway-fixture.ts';

const workload = (id: string) => ({ kind: 'workload', id }) as const;

const READERS = 20;
let fixture: GatewayFixture;
let id: string;
let looks: number;
beforeAll(async () => {
  fixture = await startGateway({ limits: { maxLogStreams: READERS } });
  const { workloads } = fixture;
  const { get } = workloads;
  workloads.get = (wanted) => {
    looks += 1;
    return get(wanted);
  };
});
afterAll(() => fixture.close());
beforeEach(async () => {
  id = newId();
  looks = 0;
  await fixture.workloads.create({ servicePath: 'services/a' }, id);
  fixture.workloads.patch(id, { vm: { hostId: HOST_ID, epoch: 1, boot: 1, vmId: 'vm-1' } });
  fixture.spools.set(id, []);
});

/** Writes one more line on the host; it is safe at once. */
function write(message: string): void {
  const lines = fixture.spools.get(id) ?? [];
  const entry: NumberedLogEntry = {
    timestamp: new Date().toISOString(),
    stage: 'running',
    level: 'info',
    epoch: 1,
    writer: HOST_ID,
    message,
    n: lines.length,
  };
  lines.push(entry);
  fixture.follows.wake(workload(id));
}

/** A reader of the log; a test can wait for its next line. */
function reader() {
  const gone = new AbortController();
  const events = fixture.api.streamWorkloadLogs(id, { retryMs: 1, signal: gone.signal });
  return {
    async next(): Promise<string> {
      const { value } = await events.next();
      if (value === undefined) return 'over';
      return value.kind === 'log' ? value.entry.message : value.kind;
    },
    leave: () => gone.abort(),
  };
}

const metric = async (name: string) => {
  const text = await (await fetch(`${fixture.base}/metrics`, { headers: authorized })).text();
  return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1]);
};
const isHeld = () => expect.poll(() => fixture.follows.held).toBe(1);

describe('a stream whose workload is at work on a host', () => {
  test('waits there: one request for all readers, lines come by it, nobody is asked where the workload is', async () => {
    const leave = fixture.follows.attend(workload(id));
    write('first');
    const readers = Array.from({ length: READERS }, () => reader());
    expect(new Set(await Promise.all(readers.map((one) => one.next())))).toEqual(new Set(['first']));
    await isHeld();
    expect(await metric('kiln_log_follows_open')).toBe(1);
    looks = 0;
    for (let n = 0; n < 10; n++) {
      const seen = Promise.all(readers.map((one) => one.next()));
      write(`line ${n}`);
      expect(new Set(await seen)).toEqual(new Set([`line ${n}`]));
    }
    expect(looks).toBe(0);
    fixture.workloads.move(id, 'stopped');
    leave();
    const ends = await Promise.all(readers.map(async (one) => [await one.next(), await one.next()]));
    expect(ends).toEqual(Array.from({ length: READERS }, () => ['pending → stopped: test', 'end']));
    expect(await metric('kiln_log_follows_open')).toBe(0);
  });

  test('shows a move between stages as soon as work on the next has begun', async () => {
    const leave = fixture.follows.attend(workload(id));
    write('building');
    const one = reader();
    expect(await one.next()).toBe('building');
    await isHeld();
    fixture.workloads.move(id, 'validate');
    const leaveNext = fixture.follows.attend(workload(id));
    leave();
    expect(await one.next()).toBe('pending → validate: test');
    write('starting');
    expect(await one.next()).toBe('starting');
    one.leave();
    leaveNext();
  });

  test('goes on over a restart of its host, each line once, and waits there again', async () => {
    fixture.follows.attend(workload(id));
    write('before');
    const one = reader();
    expect(await one.next()).toBe('before');
    await isHeld();
    await fixture.restartHost();
    write('while nobody watches');
    expect(await one.next()).toBe('while nobody watches');
    fixture.follows.attend(workload(id));
    await isHeld();
    looks = 0;
    write('after');
    expect(await one.next()).toBe('after');
    expect(looks).toBe(0);
    one.leave();
  });

  test('is polled where the host holds as many readers as it may', async () => {
    fixture.follows.attend(workload('others'));
    const { mark = '' } = await fixture.follows.follow(waiting({ waitMs: 0 }));
    const others = Array.from({ length: 10 }, () => fixture.follows.follow(waiting({ mark })));
    fixture.follows.attend(workload(id));
    const one = reader();
    const seen = one.next();
    write('all the same');
    expect(await seen).toBe('all the same');
    expect(fixture.follows.held).toBe(10);
    one.leave();
    fixture.follows.attend(workload('others'));
    await Promise.all(others);
  });

  test('gives its place at the host back when its last reader leaves', async () => {
    fixture.follows.attend(workload(id));
    write('first');
    const [one, two] = [reader(), reader()];
    await Promise.all([one.next(), two.next()]);
    await isHeld();
    one.leave();
    const seen = two.next();
    write('second');
    expect(await seen).toBe('second');
    await isHeld();
    two.leave();
    await expect.poll(() => fixture.follows.held).toBe(0);
  });

  test('is not held up by a reader that takes nothing, which is cut off, comes back and lacks no line', async () => {
    fixture.follows.attend(workload(id));
    write('first');
    const quick = reader();
    expect(await quick.next()).toBe('first');
    const slow = connect(Number(new URL(fixture.base).port), '127.0.0.1');
    const closed = once(slow, 'close');
    slow.on('error', () => undefined);
    slow.write(`GET /api/workloads/${id}/logs/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${TOKEN}\r\n\r\n`);
    await once(slow, 'readable');
    await isHeld();
    // Far more than the buffers on both ends can hold.
    const LINES = 3_000;
    const long = 'x'.repeat(8_000);
    for (let n = 0; n < LINES; n++) {
      write(`${n} ${long}`);
      if (n % 50 === 0) await turn();
    }
    for (let n = 0; n < LINES; n++) expect(await quick.next()).toBe(`${n} ${long}`);
    await expect.poll(() => metric('kiln_log_streams_open'), { timeout: 20_000 }).toBe(1);
    const received: Buffer[] = [];
    slow.on('data', (chunk: Buffer) => received.push(chunk));
    slow.resume();
    await closed;
    // The text after the last empty line is not a whole event.
    const whole = Buffer.concat(received).toString().split('\n\n').slice(0, -1);
    const last = whole.flatMap((event) => /^id: (\S+)$/m.exec(event)?.[1] ?? []).at(-1) ?? '';
    const seen = decodeLogCursor(last)[`1-${HOST_ID}`] ?? 0;
    expect(seen).toBeLessThan(LINES);
    const events = fixture.api.streamWorkloadLogs(id, { after: last });
    const { value } = await events.next();
    await events.return();
    // One more line came before the numbered lines.
    expect(value?.kind === 'log' ? value.entry.message : undefined).toBe(`${seen} ${long}`);
    quick.leave();
  });
});

function waiting(more: { mark?: string; waitMs?: number }) {
  const signal = new AbortController().signal;
  return { owner: workload('others'), after: -1, limit: 1, waitMs: 60_000, signal, ...more };
}
