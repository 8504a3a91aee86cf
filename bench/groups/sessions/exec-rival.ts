/**
 * The least that a platform on Temporal can do to run a command in a guest: a workflow of one activity, which runs it through the agent
 * of a guest that already runs. It has every advantage: its worker is in the caller's process, nothing is written down, there is no
 * HTTP, and its time ends in the worker, before anyone else could read the output.
 */
import { randomUUID } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Client, Connection } from '@temporalio/client';
import { NativeConnection, Worker } from '@temporalio/worker';
import type { DevStack } from '../../../contracts/host/dev-stack.ts';
import type { AgentChannel } from '../../../ports/guest-agent.ts';
import { bundleWorkflows } from '../../../temporal/workflow-bundle.ts';
import { preciseNow } from '../../dev-stack.ts';
import type { GroupOptions } from '../../group-options.ts';
import { GuestBed } from '../../guest-bed.ts';
import type { ExecActivities, execWorkflow } from './exec-rival-workflow.ts';

export interface ExecRival {
  /** Runs `echo x`. @returns ms from the call to the first byte of its output in the worker */
  once(): Promise<number>;
  /** @returns ms that the driver alone takes to resume the guest, which it pauses before */
  resume(): Promise<number>;
  close(): Promise<void>;
}

export const RIVAL = 'a workflow of one activity that runs the same in a guest that already runs';

const WORKFLOWS = fileURLToPath(new URL('exec-rival-workflow.ts', import.meta.url));
const TASK_QUEUE = 'bench-exec';
const MEM_MIB = 512;
const RESUME_DEADLINE_MS = 10_000;

/** Boots the guest, and starts the worker on the Temporal server of the stack. */
export async function startExecRival(
  { temporal: { address, namespace } }: DevStack,
  { directory, signal }: Pick<GroupOptions, 'directory' | 'signal'>,
): Promise<ExecRival> {
  const place = join(directory, 'rival');
  await mkdir(place);
  const bed = await GuestBed.make(place, signal);
  const vmId = await bed.prepared(MEM_MIB);
  const { agent } = (await bed.start(vmId)).vm;
  const firstByteAt = new Map<string, number>();
  const activities: ExecActivities = {
    exec: async (id) => void firstByteAt.set(id, await echo(agent, id)),
  };
  const native = await NativeConnection.connect({ address });
  const connection = await Connection.connect({ address });
  const client = new Client({ connection, namespace });
  const worker = await Worker.create({
    connection: native,
    namespace,
    taskQueue: TASK_QUEUE,
    workflowBundle: await bundleWorkflows(WORKFLOWS),
    activities: { ...activities },
  });
  const ended = worker.run();
  return {
    once: async () => {
      const id = randomUUID();
      const begun = preciseNow();
      await client.workflow.execute<typeof execWorkflow>('execWorkflow', {
        taskQueue: TASK_QUEUE,
        workflowId: `bench-exec/${id}`,
        args: [id],
      });
      return (firstByteAt.get(id) ?? Number.NaN) - begun;
    },
    resume: async () => {
      await bed.driver.pause(vmId);
      const begun = performance.now();
      await bed.driver.resume(vmId, { wallClockMs: Date.now, deadlineMs: RESUME_DEADLINE_MS, agent });
      return performance.now() - begun;
    },
    close: async () => {
      worker.shutdown();
      await ended;
      await connection.close();
      await native.close();
      await bed.destroy();
    },
  };
}

/** @returns when the first byte was there, ms since 1970 */
async function echo(agent: AgentChannel, execId: string): Promise<number> {
  const { output, exit } = await agent.exec({ execId, argv: ['echo', 'x'], cwd: '/', output: 'wait' });
  let at = Number.NaN;
  for await (const _ of output) if (Number.isNaN(at)) at = preciseNow();
  await exit;
  return at;
}
