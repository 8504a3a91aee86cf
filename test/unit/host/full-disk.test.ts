/** On a full disk, freeing space and reporting an end must not wait until there is space for logs. */
import { writeFile } from 'node:fs/promises';
import { MockActivityEnvironment } from '@temporalio/testing';
import { describe, expect, it } from 'vitest';
import { createStopService } from '../../../activities/workload/stop-service.ts';
import { createSuperviseVm } from '../../../activities/workload/supervise-vm.ts';
import type { InstanceRecord } from '../../../contracts/host/instance-record.ts';
import { KilnError } from '../../../domain/failures.ts';
import type { ServiceManifest } from '../../../domain/workload/workload.ts';
import type { VmHost } from '../../../ports/host.ts';
import type { OwnerLogs } from '../../../ports/logs.ts';
import type { GuestServices } from '../../../ports/services.ts';
import type { DriverContext, VmBackend } from '../../../vmm/driver-context.ts';
import type { InstanceStore } from '../../../vmm/instance-record.ts';
import type { VmLimits } from '../../../vmm/limits/vm-limits.ts';
import { settleExit } from '../../../vmm/vm-exit.ts';

const RECORD: InstanceRecord = {
  version: 1,
  vmId: 'w-1-1',
  driver: 'qemu',
  imageDigest: 'sha256:0',
  vcpus: 1,
  memMib: 512,
  owner: { workflowId: 'workload/w', firstExecutionId: 'x', namespaceId: 'n', epoch: 1, boot: 1, role: 'service' },
  kernelPath: '/k',
  initrdPath: '/i',
  drives: [],
  ports: [],
  createdAt: new Date(0).toISOString(),
  sockets: { agent: '/run/x/w-1-1/agent.sock' },
};
const full = () => Promise.reject(new KilnError('DISK_FULL', 'no space for logs'));
const logs: OwnerLogs = {
  open: async () => ({ write: () => undefined, writeOutput: async () => [], flush: full }),
  serviceOffset: async () => 0,
  saveServiceOffset: full,
  ship: full,
  attend: () => () => undefined,
};
const exit = { code: 0, signal: null, timedOut: false };
const ref = { workloadId: 'w', epoch: 1, vmId: 'w-1-1' };

function stub<T extends object>(methods: Partial<T>): T {
  const refuse = (_: object, name: string | symbol) => {
    throw new Error(`${String(name)} is not expected here`);
  };
  return new Proxy(methods as T, { get: (target, name) => Reflect.get(target, name) ?? refuse(target, name) });
}

describe('on a full disk', () => {
  it('a service is stopped', async () => {
    const stop = createStopService({
      services: stub<GuestServices>({ stop: async () => exit }),
      logs,
    });
    const stopped = await new MockActivityEnvironment().run(stop, { ...ref, graceMs: 0 });
    expect(stopped).toEqual({ exit: { code: 0, signal: null, reason: 'stopped' } });
  });

  it('the end of a service is told as it was', async () => {
    const health = { intervalMs: 60_000, timeoutMs: 1_000, failures: 3, startPeriodMs: 1_000 };
    const manifest: ServiceManifest = {
      language: 'node',
      installs: false,
      hooks: { start: 'node server.js' },
      outputs: [],
      envRequired: [],
      egress: [],
      resources: {},
      health,
    };
    const supervise = createSuperviseVm({
      vms: stub<VmHost>({ waitExit: () => new Promise(() => undefined) }),
      services: stub<GuestServices>({ waitExit: async () => ({ exit: { ...exit, code: 3 }, tail: 'bye' }) }),
      logs,
    });
    const seen = await new MockActivityEnvironment().run(supervise, { ...ref, manifest, port: 8080 });
    expect(seen).toMatchObject({ kind: 'service-exited', exit: { code: 3 }, tail: 'bye' });
  });

  it('a VM that has died is told as it died; one that never ran needs its end written down', async () => {
    const died = { reason: 'vmm-crash', code: null, signal: 'SIGKILL' } as const;
    const context = (record: InstanceRecord) =>
      stub<DriverContext>({
        ends: new Map(),
        options: { stateDir: '/state', runtimeDir: '/run/x', log: { info: () => undefined, warn: () => undefined } },
        records: stub<InstanceStore>({
          read: async () => record,
          update: () => writeFile('/dev/full', 'x').then(() => undefined),
        }),
        backend: stub<VmBackend>({ explain: async () => died }),
        limits: stub<VmLimits>({ explain: async (_vmId, _directory, told) => told }),
      });
    const process = { pid: 2, startTicks: '1', hostBootId: 'boot' };
    expect(await settleExit(context({ ...RECORD, process }), 'w-1-1')).toEqual(died);
    await expect(settleExit(context(RECORD), 'w-1-1')).rejects.toMatchObject({ code: 'ENOSPC' });
  });
});
