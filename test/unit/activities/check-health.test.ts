/** The start period of a service counts elapsed time, whatever happens to the wall clock meanwhile. */
import { PassThrough } from 'node:stream';
import { MockActivityEnvironment } from '@temporalio/testing';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createCheckHealth } from '../../../activities/workload/check-health.ts';
import type { ServiceManifest } from '../../../domain/workload/workload.ts';
import { attached } from '../../support/guest/scripted-guest.ts';

const DAY_MS = 86_400_000;
const manifest: ServiceManifest = {
  language: 'node',
  installs: false,
  hooks: { start: 'node server.js' },
  outputs: [],
  envRequired: [],
  egress: [],
  resources: {},
  health: { intervalMs: 60_000, timeoutMs: 60_000, failures: 3, startPeriodMs: 60_000 },
};

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['Date'] });
});
afterEach(() => {
  vi.useRealTimers();
});

describe('a service that is starting', () => {
  it('is not given up because the wall clock was set forward', async () => {
    const { agent } = await attached();
    vi.spyOn(agent, 'connectTcp')
      .mockImplementationOnce(async () => {
        vi.setSystemTime(Date.now() + DAY_MS);
        throw new Error('nobody listens yet');
      })
      .mockImplementation(async () => new PassThrough());
    const check = createCheckHealth({
      vms: { agent: async () => agent },
      services: { waitExit: () => new Promise(() => undefined), setStage: async () => undefined },
      logs: {
        open: async () => ({ write: () => undefined, writeOutput: async () => [], flush: async () => undefined }),
      },
      readyPollMs: 1,
    });
    const input = { workloadId: 'w', epoch: 1, vmId: 'w-1-1', manifest, port: 8080 };
    expect(await new MockActivityEnvironment().run(check, input)).toEqual({ readyMs: expect.any(Number) });
    await agent.detach();
  });
});
