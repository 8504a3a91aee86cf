import { once } from 'node:events';
import { createServer } from 'node:net';
import { PassThrough } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { readEnvironment } from '../../../../config/environment.ts';
import type { InstanceRecord } from '../../../../contracts/host/instance-record.ts';
import { assertHostPort } from '../../../../domain/host-ports.ts';
import { createVmPorts } from '../../../../host/vm-ports/vm-ports.ts';
import { silentLogger } from '../../../support/workers/silent-logger.ts';

describe('KILN_HOST_PORTS', () => {
  it('is a range; 20000 to 29999 where it is not set', () => {
    expect(readEnvironment({}).KILN_HOST_PORTS).toEqual({ from: 20_000, to: 29_999 });
    expect(readEnvironment({ KILN_HOST_PORTS: '8000-8000' }).KILN_HOST_PORTS).toEqual({ from: 8_000, to: 8_000 });
  });

  it.each(['8000', '0-10', '9000-8000', '1-65536', '-1-5', 'a-b', '1-2-3', '1 - 2'])(
    '%s is refused by name',
    (text) => {
      expect(() => readEnvironment({ KILN_HOST_PORTS: text })).toThrow(/KILN_HOST_PORTS/);
    },
  );
});

it('a port at either end of the range is taken, one beside it is refused with the range', () => {
  const range = { from: 100, to: 200 };
  for (const port of [100, 200]) assertHostPort(port, range);
  for (const port of [99, 201]) {
    expect(() => assertHostPort(port, range)).toThrow(
      expect.objectContaining({ code: 'PORT_NOT_ALLOWED', message: expect.stringContaining('100 to 200') }),
    );
  }
});

describe('the ports of VMs', () => {
  const at = (ports: InstanceRecord['ports'], allowed: { from: number; to: number }) => {
    let record: InstanceRecord = {
      version: 1,
      vmId: 'a-0-0',
      driver: 'fake',
      owner: { workflowId: 'workload/a', firstExecutionId: 'x', namespaceId: 'n', epoch: 0, boot: 0, role: 'service' },
      imageDigest: 'sha256:0',
      vcpus: 1,
      memMib: 512,
      kernelPath: '/none',
      initrdPath: '/none',
      drives: [],
      sockets: { agent: '/none' },
      ports,
      createdAt: new Date(0).toISOString(),
    };
    return createVmPorts({
      bindAddress: '127.0.0.1',
      ports: allowed,
      maxConnections: 1,
      rebindMs: 10,
      logger: silentLogger,
      connect: async () => new PassThrough(),
      records: {
        read: async () => record,
        update: async (_vmId, change) => {
          record = change(record);
          return record;
        },
      },
    });
  };

  it('are never outside of the range, whoever asks', async () => {
    const port = await freePort();
    const outside = at([], { from: 1, to: port - 1 });
    await expect(outside.open('a-0-0', 8080, port)).rejects.toMatchObject({ code: 'PORT_NOT_ALLOWED' });
    expect(outside.ports().size).toBe(0);
    const inside = at([], { from: port, to: port });
    expect([
      await inside.open('a-0-0', 8080, undefined),
      await inside.open('a-0-0', 8081, undefined).catch(codeOf),
    ]).toEqual([port, 'PORT_IN_USE']);
    await inside.closeAll();
  });

  it('are kept by a VM that had them before the range was another', async () => {
    const port = await freePort();
    const vmPorts = at([{ guestPort: 8080, hostPort: port }], { from: 1, to: port - 1 });
    await vmPorts.restore('a-0-0');
    expect(await vmPorts.open('a-0-0', 8080, port)).toBe(port);
    await vmPorts.closeAll();
  });
});

const codeOf = (error: unknown) => (error instanceof Error && 'code' in error ? error.code : error);

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  return typeof address === 'object' && address !== null ? address.port : 0;
}
