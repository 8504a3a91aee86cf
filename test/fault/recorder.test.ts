/** The control worker is killed while it records: nothing counts as archived too early, and all of it is in the end. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { CONTROL_QUEUE } from '../../domain/names.ts';
import type { MaintenanceInput } from '../../domain/upkeep/maintenance.ts';
import { createHistoryArchive } from '../../store/archive/history-archive.ts';
import { replayArchived } from '../support/histories/archived-histories.ts';
import { runServers } from '../support/servers/run-servers.ts';
import { ProcessStack } from '../support/workers/process-stack.ts';

const POLICIES = { heartbeatMs: 1_500, backoffMs: 20, maxBackoffMs: 200, hostAnswerMs: 1_000 };
let stack: ProcessStack;

beforeAll(async () => {
  stack = await ProcessStack.start(runServers());
});
afterAll(() => stack.close());

/** Ends two workloads: nothing that is recorded about one may count for the other. */
async function makeOver(ids: readonly string[]): Promise<void> {
  for (const id of ids) await stack.workloads.create({ servicePath: 'missing' }, id);
  await expect
    .poll(
      async () => {
        const { items } = await stack.workloads.list({ limit: 200 });
        return ids.every((id) => items.some((item) => item.id === id && item.closedAt !== undefined));
      },
      { timeout: 30_000 },
    )
    .toBe(true);
}

it.each([
  ['closed.fetch', 'before'],
  ['closed.fetch', 'after'],
  ['archive.saveExecution', 'after'],
  ['archive.saveWhole', 'after'],
  ['archive.savePosition', 'before'],
] as const)('a worker killed %s %s: its successor records the rest', async (port, moment) => {
  const name = `${port.toLowerCase().replace('.', '-')}-${moment}`;
  const ids = [`${name}-a`, `${name}-b`];
  await makeOver(ids);
  const { reached } = await stack.worker('control').hold(port, moment);
  const args: [MaintenanceInput] = [{ schemaVersion: 1, policies: POLICIES }];
  const run = await stack.temporal.workflow.start('maintenanceWorkflow', {
    args,
    taskQueue: CONTROL_QUEUE,
    workflowId: `maintenance/${name}`,
  });
  await reached;
  const archive = createHistoryArchive(stack.store);
  for (const id of ids) {
    const whole = await archive.whole(`workload/${id}`);
    // A history that is marked as whole must be readable to its last byte.
    if (whole !== undefined) expect(await archive.read(`workload/${id}`)).toHaveLength(whole.executions.length);
  }
  await stack.replaceWorker('control');
  expect(await run.result()).toMatchObject({ recorded: { failed: 0, more: false }, problems: [] });
  expect(await replayArchived(stack.store, ids)).toBe(2);
});
