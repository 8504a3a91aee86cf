import { Readable } from 'node:stream';
import { ActivityCancellationDetails } from '@temporalio/common';
import { MockActivityEnvironment } from '@temporalio/testing';
import { expect, it } from 'vitest';
import { createStartService } from '../../../activities/workload/start-service.ts';
import { SERVICE_EXEC_ID } from '../../../domain/names.ts';

const OUTPUT = { sha256: 'f'.repeat(64), bytes: 1 };
const REQUEST: Parameters<ReturnType<typeof createStartService>>[0] = {
  workloadId: 'w',
  epoch: 1,
  vmId: 'w-1-1',
  specHash: 'h',
  port: 8080,
  build: { ...OUTPUT, cached: false },
  manifest: {
    language: 'node',
    hooks: { start: 'node server.js' },
    outputs: [],
    envRequired: [],
    egress: [],
    installs: false,
    resources: {},
    health: { path: '/', intervalMs: 1, timeoutMs: 1, failures: 1, startPeriodMs: 1 },
  },
};

it('a start that follows one thought lost puts no file under the service of that one', async () => {
  const unpacked = Promise.withResolvers<void>();
  const unpacking = Promise.withResolvers<void>();
  let tars = 0;
  let starts = 0;
  const startService = createStartService({
    vms: {
      agent: async () => ({
        listExecs: async () => (starts === 0 ? [] : [{ execId: SERVICE_EXEC_ID, state: 'running', pid: 7 }]),
        async putTar() {
          tars += 1;
          unpacking.resolve();
          await unpacked.promise;
          return { bytes: 1 };
        },
      }),
      openPort: async () => ({ port: 20_000, url: 'http://127.0.0.1:20000' }),
      setEgress: async () => undefined,
    },
    services: {
      async start() {
        starts += 1;
        return { pid: 7 };
      },
    },
    builds: { open: async () => Readable.from([]) },
    documents: { readSpec: async () => ({ servicePath: '.' }) },
    logs: {
      open: async () => ({ write: () => undefined, writeOutput: async () => [], flush: async () => undefined }),
    },
  });
  const first = new MockActivityEnvironment();
  const lost = expect(first.run(startService, REQUEST)).rejects.toMatchObject({ name: 'CancelledFailure' });
  await unpacking.promise;
  first.cancel('NOT_FOUND', new ActivityCancellationDetails({ notFound: true }));
  await lost;
  const second = new MockActivityEnvironment().run(startService, REQUEST);
  // By now the second run has done everything that it does without waiting for the first.
  for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
  expect(tars).toBe(1);
  unpacked.resolve();
  expect(await second).toMatchObject({ servicePid: 7 });
  expect(tars).toBe(1);
});
