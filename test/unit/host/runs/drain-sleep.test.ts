import { expect, it } from 'vitest';
import type { InstanceRecord } from '../../../../contracts/host/instance-record.ts';
import { createDrainSleep } from '../../../../host/runs/drain-sleep.ts';
import { silentLogger } from '../../../support/workers/silent-logger.ts';

const ROLES = { a: 'session', b: 'service', c: 'session' } as const;

function draining() {
  const vms = new Set<string>(Object.keys(ROLES));
  const asked: string[] = [];
  let failing = new Set<string>();
  const drain = createDrainSleep({
    records: {
      list: async () => [...vms],
      read: async (vmId) => {
        if (vmId === 'damaged') throw new Error('no record');
        const role = Object.entries(ROLES).find(([name]) => name === vmId)?.[1] ?? 'session';
        // Only the owner of a record is looked at.
        return { owner: { workflowId: `session/default/${vmId}/1`, role } } as InstanceRecord;
      },
    },
    tell: async ({ workflowId }) => {
      if (failing.has(workflowId)) throw new Error('Temporal is away');
      asked.push(workflowId);
    },
    logger: silentLogger,
  });
  const round = async (is = true) => {
    drain.rest(is);
    await drain.settled();
  };
  return { vms, asked, round, fail: (...ids: string[]) => (failing = new Set(ids)) };
}

const idOf = (name: string) => `session/default/${name}/1`;

it('each session of a draining host is asked once, those that come later too', async () => {
  const { vms, asked, round } = draining();
  await round();
  await round();
  expect(asked).toEqual([idOf('a'), idOf('c')]);
  vms.add('damaged').add('late');
  await round();
  expect(asked.slice(2)).toEqual([idOf('late')]);
});

it('nobody is asked otherwise; a host that drains again asks again', async () => {
  const { asked, round } = draining();
  await round(false);
  expect(asked).toEqual([]);
  await round();
  await round(false);
  await round();
  expect(asked).toEqual([idOf('a'), idOf('c'), idOf('a'), idOf('c')]);
});

it('one that could not be asked is asked again', async () => {
  const { asked, round, fail } = draining();
  fail(idOf('a'));
  await round();
  expect(asked).toEqual([idOf('c')]);
  fail();
  await round();
  expect(asked).toEqual([idOf('c'), idOf('a')]);
});
