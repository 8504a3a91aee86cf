/** Runs and files in a guest whose agent came with an image of an earlier version: they work, or say what is missing. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createVmFiles } from '../../../../host/files/vm-files.ts';
import { createSessionRuns } from '../../../../host/runs/session-runs.ts';
import type { AgentChannel } from '../../../../ports/guest-agent.ts';
import type { SessionRuns } from '../../../../ports/runs.ts';
import { FRAME } from '../../../../vmm/agent/frames.ts';
import { attached } from '../../../support/guest/scripted-guest.ts';

const RUN = { vmId: 'abc-1-1', turn: 1 };
const ORDER = {
  ...RUN,
  session: { project: 'default', thread: 't', incarnation: 1 },
  runId: 'r',
  timeoutMs: 60_000,
  silentMs: 60_000,
  command: async () => ({ argv: ['true'], env: {} }),
};
const NEVER = new AbortController().signal;

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'ko-'));
});
afterEach(() => rm(root, { recursive: true }));

function runsIn(agent: AgentChannel): SessionRuns {
  return createSessionRuns({
    ...{ maxOutputBytes: 1000, maxUnsafeBytes: 1000, reattachPauseMs: 1, leftoversMs: 50 },
    vms: { agent: async () => agent, egressBytes: () => 0 },
    vmDirectory: () => root,
    outputPath: () => join(root, 'output'),
    expectOutput: async () => undefined,
    expected: async () => undefined,
    onEnd: () => undefined,
  });
}

describe('a run', () => {
  it.each([
    [[], 'exec-usage'],
    [['exec-cgroup'], 'exec-usage'],
    [['exec-usage'], 'exec-cgroup'],
  ])(
    'where the agent has only %j is UNSUPPORTED, again and again, and the guest hears nothing of it',
    async (features, lacks) => {
      const { agent, guest } = await attached(60_000, features);
      const runs = runsIn(agent);
      for (let time = 0; time < 2; time++) {
        await expect(runs.run(ORDER, NEVER)).rejects.toMatchObject({
          code: 'UNSUPPORTED',
          message: expect.stringMatching(new RegExp(`${lacks}.*\`kiln image build NAME\`.*new session`)),
        });
      }
      expect(guest.received.filter(({ type }) => type === FRAME.open)).toEqual([]);
      await agent.detach();
    },
  );

  it('where the agent has all of them is started', async () => {
    const { agent, guest } = await attached(60_000, ['exec-cgroup', 'exec-usage']);
    const ended = runsIn(agent).run(ORDER, NEVER);
    const { stream } = await guest.receive(FRAME.open);
    guest.send(FRAME.opened, stream, '{"pid":7,"existed":false}');
    guest.send(FRAME.exit, stream, '{"code":0,"signal":null,"timedOut":false}');
    expect(await ended).toMatchObject({ code: 0 });
    await agent.detach();
  });
});

describe('a file', () => {
  const OWNED = { vmId: RUN.vmId, workflowId: 'session/default/t/1', epoch: 1 };
  const filesIn = (agent: AgentChannel) =>
    createVmFiles({
      agent: async () => agent,
      assertOwner: async () => undefined,
      status: async () => ({ state: 'running', pid: 7 }),
    });

  it('needs nothing of the agent that the first of them had not', async () => {
    const { agent, guest } = await attached();
    const removed = filesIn(agent).remove(OWNED, 'f');
    const { stream, payload } = await guest.receive(FRAME.open);
    expect(JSON.parse(payload.toString())).toMatchObject({ kind: 'exec' });
    const body = JSON.parse((await guest.receive(FRAME.data)).payload.toString());
    expect(body).not.toHaveProperty('killLeftoversAfterMs');
    guest.send(FRAME.opened, stream, '{"pid":8,"existed":false}');
    guest.send(FRAME.exit, stream, '{"code":0,"signal":null,"timedOut":false}');
    await removed;
    await agent.detach();
  });

  it('for which the image has no program is UNSUPPORTED, and says how to get one', async () => {
    const { agent, guest } = await attached();
    const removed = filesIn(agent).remove(OWNED, 'f');
    const refused = expect(removed).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('`kiln image build NAME`'),
    });
    const { stream } = await guest.receive(FRAME.open);
    guest.send(FRAME.opened, stream, '{"pid":8,"existed":false}');
    guest.send(FRAME.exit, stream, '{"code":127,"signal":null,"timedOut":false}');
    await refused;
    await agent.detach();
  });
});
