/** How often a sweep asks for the owners of VMs: sessions that rest must cost no call each. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { VmOwner } from '../../../../domain/vm.ts';
import { createSweep, type OpenOwner, type OwnerLookup } from '../../../../host/upkeep/sweep.ts';
import { silentLogger } from '../../../support/workers/silent-logger.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'kiln-sweep-'));
});
afterEach(() => rm(directory, { recursive: true }));

const ownerOf = (n: number, more: Partial<VmOwner> = {}): VmOwner => ({
  workflowId: `session/default/t${n}/1`,
  firstExecutionId: `first-${n}`,
  namespaceId: 'ns',
  epoch: 1,
  boot: 1,
  role: 'session',
  ...more,
});

/** @returns workflow ids that were asked for one by one, calls of the list, and the VMs that were destroyed */
async function swept(owners: readonly VmOwner[], openHere: NonNullable<OwnerLookup['openHere']>) {
  const asked: string[] = [];
  const destroyed: string[] = [];
  let lists = 0;
  const ids = owners.map((_, n) => `vm${n}-1-1`);
  const sweep = createSweep({
    stateDir: directory,
    runtimeDir: directory,
    graceMs: 0,
    maxDestroys: 5,
    logger: silentLogger,
    driver: {
      list: async () => [...ids],
      listGroups: async () => [],
      status: async () => ({ state: 'paused' }),
      inspect: async (vmId) => {
        const owner = owners[ids.indexOf(vmId)];
        return owner && { vmId, owner, imageDigest: 'd', createdAt: '2026-01-01T00:00:00.000Z' };
      },
    },
    vms: {
      adopt: async (vmId) => ({ vmId, adopted: true }),
      isAttached: () => false,
      isBusy: () => false,
      release: async (vmId) => void destroyed.push(vmId),
    },
    ledger: { list: async () => [], prune: async () => [], release: async () => undefined },
    owners: {
      lookup: async ({ workflowId }) => {
        asked.push(workflowId);
        return 'over';
      },
      openHere: async () => {
        lists += 1;
        return openHere();
      },
    },
    onAdopted: async () => undefined,
  });
  await sweep.run();
  return { asked, lists, destroyed };
}

const listed = (...owners: readonly VmOwner[]): ReadonlyMap<string, OpenOwner> =>
  new Map(owners.map((owner) => [owner.workflowId, owner]));

describe('a sweep', () => {
  it('asks once for all sessions that are open', async () => {
    const owners = Array.from({ length: 300 }, (_, n) => ownerOf(n));
    expect(await swept(owners, async () => listed(...owners))).toEqual({ asked: [], lists: 1, destroyed: [] });
  });

  it('asks for each that the list leaves out, or has at another placement, or as another execution', async () => {
    const owners = [ownerOf(0), ownerOf(1), ownerOf(2), ownerOf(3)];
    const open = listed(ownerOf(0), ownerOf(1, { epoch: 2 }), ownerOf(2, { firstExecutionId: 'another' }));
    const { asked, destroyed } = await swept(owners, async () => open);
    expect(asked).toEqual([1, 2, 3].map((n) => `session/default/t${n}/1`));
    expect(destroyed).toEqual(['vm1-1-1', 'vm2-1-1', 'vm3-1-1']);
  });

  it('asks for each where the list cannot be had; for workloads always', async () => {
    const owners = [ownerOf(0), ownerOf(1, { workflowId: 'workload/w', role: 'service' })];
    const { asked } = await swept(owners, () => Promise.reject(new Error('away')));
    expect(asked).toEqual(['session/default/t0/1', 'workload/w']);
    expect((await swept(owners, async () => listed(...owners))).asked).toEqual(['workload/w']);
  });
});
