/** What the supervisor of a VM observes where several of its watches have something to say. */
import { setTimeout as delay } from 'node:timers/promises';
import { MockActivityEnvironment } from '@temporalio/testing';
import { describe, expect, it } from 'vitest';
import { createSuperviseVm } from '../../../activities/workload/supervise-vm.ts';
import { KilnError } from '../../../domain/failures.ts';
import type { VmExit, VmStatus } from '../../../domain/vm.ts';
import type { ServiceManifest } from '../../../domain/workload/workload.ts';

const manifest: ServiceManifest = {
  language: 'node',
  installs: false,
  hooks: { start: 'node server.js' },
  outputs: [],
  envRequired: [],
  egress: [],
  resources: {},
  health: { intervalMs: 1, timeoutMs: 1_000, failures: 3, startPeriodMs: 60_000 },
};
const EXIT: VmExit = { reason: 'killed', code: null, signal: 'SIGKILL' };

/** Supervises a VM whose channel is lost and whose service says nothing. */
function supervise(status: VmStatus, waitExit: (checks: () => number) => Promise<VmExit>) {
  let checks = 0;
  const vms = {
    agent: async () => {
      checks += 1;
      throw new KilnError('AGENT_LOST', 'the channel is lost');
    },
    status: async () => status,
    waitExit: () => waitExit(() => checks),
  };
  const activity = createSuperviseVm({
    vms,
    services: { waitExit: () => new Promise(() => undefined) },
    logs: {
      open: async () => ({ write: () => undefined, writeOutput: async () => [], flush: async () => undefined }),
    },
  });
  const input = { workloadId: 'w', epoch: 1, vmId: 'w-1-1', manifest, port: 8080 };
  return new MockActivityEnvironment().run(activity, input);
}

describe('a VM whose health checks fail', () => {
  it('is unhealthy while it runs', async () => {
    const seen = await supervise({ state: 'running', pid: 1 }, () => new Promise(() => undefined));
    expect(seen).toMatchObject({ kind: 'unhealthy' });
  });

  it.each(['exited', 'gone'] as const)('has ended where it is %s, however late that is seen', async (state) => {
    const status: VmStatus = state === 'exited' ? { state, exit: EXIT } : { state };
    const seen = await supervise(status, async (checks) => {
      while (checks() < 3) await delay(1);
      await delay(20);
      return EXIT;
    });
    expect(seen).toMatchObject({ kind: 'vm-gone', code: 'VMM_EXITED' });
  });
});
