import { ActivityCancellationDetails } from '@temporalio/common';
import { MockActivityEnvironment } from '@temporalio/testing';
import { describe, expect, it } from 'vitest';
import { createBootVm } from '../../../activities/vm/boot-vm.ts';
import type { VmHost } from '../../../ports/host.ts';
import type { LogWriter } from '../../../ports/logs.ts';

const REQUEST = { workloadId: 'w', epoch: 1, vmId: 'w-1-1', hostname: 'w', deadlineMs: 60_000, vmIds: [] };

/** Runs `bootVm` and cancels it in the middle. @returns whether the boot itself was aborted */
async function cancelledWith(details: ConstructorParameters<typeof ActivityCancellationDetails>[0]): Promise<boolean> {
  const log: LogWriter = {
    write: () => undefined,
    writeOutput: async () => [],
    flush: async () => undefined,
  };
  const began = Promise.withResolvers<AbortSignal>();
  const never = Promise.withResolvers<never>();
  const boot: VmHost['boot'] = ({ signal }) => {
    if (signal !== undefined) began.resolve(signal);
    signal?.addEventListener('abort', () => never.reject(signal.reason));
    return never.promise;
  };
  const environment = new MockActivityEnvironment();
  const bootVm = createBootVm({
    vms: { boot, provision: () => Promise.reject(new Error('it is there')), releaseOlder: async () => [] },
    ledger: { release: async () => undefined },
    logs: { open: async () => log },
    namespaceId: 'n',
  });
  const ended = environment.run(bootVm, REQUEST);
  const signal = await began.promise;
  environment.cancel('CANCELLED', new ActivityCancellationDetails(details));
  await expect(ended).rejects.toMatchObject({ name: 'CancelledFailure' });
  return signal.aborted;
}

describe('a boot', () => {
  it.each([
    ['its heartbeats came late', { notFound: true }, false],
    ['its time was over', { timedOut: true }, false],
    ['its worker shuts down', { workerShutdown: true }, false],
    ['an operator reset it', { reset: true }, false],
    ['its workload is stopped', { cancelRequested: true }, true],
  ])('where %s %o: is given up: %s', async (_why, details, isGivenUp) => {
    expect(await cancelledWith(details)).toBe(isGivenUp);
  });
});
