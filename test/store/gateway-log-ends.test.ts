/** When the stream of a log ends: readers that leave early, and lines that come late. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { LogEvent } from '../../client/http/log-events.ts';
import type { NumberedLogEntry } from '../../domain/logs/log-entry.ts';
import { createControlLog } from '../../store/logs/control-log.ts';
import {
  authorized,
  type GatewayFixture,
  HOST_ID,
  newId,
  startGateway,
  TOKEN,
} from '../support/gateway/gateway-fixture.ts';

let fixture: GatewayFixture;
let workloads: GatewayFixture['workloads'];
beforeAll(async () => {
  fixture = await startGateway();
  ({ workloads } = fixture);
});
afterAll(() => fixture.close());

describe('a stream of a log', () => {
  test('takes its place at once, and gives it back where its reader left before it began', async () => {
    const id = newId();
    await workloads.create({ servicePath: 'services/a' }, id);
    const { get } = workloads;
    const asked = Promise.withResolvers<void>();
    const answer = Promise.withResolvers<void>();
    workloads.get = async (wanted) => {
      asked.resolve();
      await answer.promise;
      return get(wanted);
    };
    const left = new Promise<void>((resolve) => {
      fixture.server.once('request', (_request, response) => response.once('close', () => resolve()));
    });
    const socket = connect(Number(new URL(fixture.base).port), '127.0.0.1');
    socket.write(`GET /api/workloads/${id}/logs/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${TOKEN}\r\n\r\n`);
    await asked.promise;
    await openStreams(1);
    socket.destroy();
    await Promise.all([left, once(socket, 'close')]);
    answer.resolve();
    await openStreams(0);
    workloads.get = get;
  });

  test('ends only when the workflow does, which writes its last lines after it has shown its final stage', async () => {
    const id = await endedWorkload();
    workloads.closing.add(id);
    // Long after the gateway looked and found nothing new in the final stage.
    const events = await eventsOf(id, {
      atLook: 5,
      happens: async () => {
        await createControlLog(fixture.store).append({ ...LAST_LINE, workloadId: id });
        workloads.closing.delete(id);
      },
    });
    expect(events).toEqual(['pending → failed: test', LAST_LINE.message, 'end']);
  });

  test('waits for a host that has lines of a workload which is over, and is away', async () => {
    const id = await endedWorkload();
    fixture.spools.set(id, [{ ...LAST_LINE, writer: HOST_ID }]);
    await fixture.register('http://127.0.0.1:1');
    const events = await eventsOf(id, { atLook: 5, happens: () => fixture.register(fixture.hostUrl) });
    expect(events).toEqual(['pending → failed: test', LAST_LINE.message, 'end']);
  });

  test('ends without the lines of a host that stays away', async () => {
    const impatient = await startGateway({ limits: { streamIncompleteMs: 1 } });
    const id = await endedWorkload(impatient);
    impatient.spools.set(id, [{ ...LAST_LINE, writer: HOST_ID }]);
    await impatient.register('http://127.0.0.1:1');
    const events: string[] = [];
    for await (const event of impatient.api.streamWorkloadLogs(id)) events.push(told(event));
    await impatient.close();
    expect(events).toEqual(['pending → failed: test', 'end']);
  });
});

const LAST_LINE: Omit<NumberedLogEntry, 'writer'> = {
  timestamp: '2026-01-02T03:04:05.678Z',
  stage: 'running',
  level: 'error',
  message: 'why it failed',
  epoch: 1,
  n: 0,
};

async function endedWorkload({ workloads: of } = fixture): Promise<string> {
  const id = newId();
  await of.create({ servicePath: 'services/a' }, id);
  of.patch(id, { vm: { hostId: HOST_ID, epoch: 1, boot: 1, vmId: 'vm-1' } });
  of.move(id, 'failed');
  return id;
}

/** Reads a stream to its end. When the gateway looks up the workload for the `atLook`th time, calls `happens`. */
async function eventsOf(id: string, { atLook, happens }: { atLook: number; happens: () => Promise<void> }) {
  const { get } = workloads;
  let looks = 0;
  workloads.get = async (wanted) => {
    looks += 1;
    if (looks === atLook) await happens();
    return get(wanted);
  };
  const events: string[] = [];
  for await (const event of fixture.api.streamWorkloadLogs(id)) events.push(told(event));
  workloads.get = get;
  return events;
}

function told(event: LogEvent): string {
  return event.kind === 'log' ? event.entry.message : event.kind;
}

/** Waits until exactly `count` log streams are open. */
async function openStreams(count: number): Promise<void> {
  const metrics = () => fetch(`${fixture.base}/metrics`, { headers: authorized }).then((reply) => reply.text());
  await expect.poll(metrics).toMatch(new RegExp(`^kiln_log_streams_open ${count}$`, 'm'));
}
